#include "worker/comm/rendezvous.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

TEST(Rendezvous, ValuesAreThoseOfTheirRank) {
  const auto board = std::make_shared<RendezvousBoard>();
  const auto zero = MakeLocalRendezvous(board, 0);
  const auto one = MakeLocalRendezvous(board, 1);
  ASSERT_OK(zero->Publish("id", "a"));
  ASSERT_OK(one->Publish("id", "b"));
  ASSERT_OK_AND_ASSIGN(const std::string a, one->Fetch(0, "id", milliseconds(0)));
  ASSERT_OK_AND_ASSIGN(const std::string b, zero->Fetch(1, "id", milliseconds(0)));
  EXPECT_EQ(a + b, "ab");
  EXPECT_THAT(one->Publish("id", "c"), StatusIs(StatusCode::kAlreadyExists, HasSubstr("rank 1")));
}

TEST(Rendezvous, FetchWaitsForALatePublisher) {
  const auto board = std::make_shared<RendezvousBoard>();
  const auto zero = MakeLocalRendezvous(board, 0);
  std::thread late([&] { EXPECT_OK(zero->Publish("id", "a")); });
  ASSERT_OK_AND_ASSIGN(const std::string value,
                       MakeLocalRendezvous(board, 1)->Fetch(0, "id", milliseconds(60000)));
  late.join();
  EXPECT_EQ(value, "a");
}

TEST(Rendezvous, AMissingRankIsNamed) {
  const auto board = std::make_shared<RendezvousBoard>();
  EXPECT_THAT(
      MakeLocalRendezvous(board, 0)->Fetch(3, "group stage.1", milliseconds(1)).status(),
      StatusIs(StatusCode::kDeadlineExceeded, AllOf(HasSubstr("rank 3"), HasSubstr("group stage.1"))));
}

TEST(Rendezvous, AbortWakesAFetch) {
  const auto board = std::make_shared<RendezvousBoard>();
  const auto zero = MakeLocalRendezvous(board, 0);
  std::thread aborter([&] { zero->Abort(Unavailable("the replica is being rebuilt")); });
  EXPECT_THAT(zero->Fetch(1, "id", milliseconds(60000)).status(),
              StatusIs(StatusCode::kAborted, HasSubstr("being rebuilt")));
  aborter.join();
}

}  // namespace
}  // namespace fulger
