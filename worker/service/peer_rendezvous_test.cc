// Two workers' peer servers on loopback.
#include "worker/service/peer_rendezvous.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using absl::StatusCode;
using std::chrono::milliseconds;
using testing::AllOf;
using testing::HasSubstr;

class PeerRendezvousTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(zero_server_, PeerServer::Start("127.0.0.1"));
    ASSERT_OK_AND_ASSIGN(one_server_, PeerServer::Start("127.0.0.1"));
    const std::vector<std::string> addresses = {zero_server_->address(), one_server_->address()};
    zero_ = std::make_unique<PeerRendezvous>(*zero_server_, addresses);
    one_ = std::make_unique<PeerRendezvous>(*one_server_, addresses);
  }
  std::unique_ptr<PeerServer> zero_server_, one_server_;
  std::unique_ptr<PeerRendezvous> zero_, one_;
};

TEST_F(PeerRendezvousTest, ValuesAreThoseOfTheirRank) {
  const std::string bytes("\0\1\xff", 3);
  ASSERT_OK(zero_->Publish("group stage.0", bytes));
  ASSERT_OK(one_->Publish("group stage.0", "other"));
  ASSERT_OK_AND_ASSIGN(const std::string value, one_->Fetch(0, "group stage.0", milliseconds(30000)));
  EXPECT_EQ(value, bytes);
  EXPECT_EQ(zero_->Publish("group stage.0", "again").code(), StatusCode::kAlreadyExists);
}

TEST_F(PeerRendezvousTest, FetchWaitsForALatePublisher) {
  std::thread late([&] { EXPECT_OK(zero_->Publish("id", "a")); });
  ASSERT_OK_AND_ASSIGN(const std::string value, one_->Fetch(0, "id", milliseconds(30000)));
  late.join();
  EXPECT_EQ(value, "a");
}

TEST_F(PeerRendezvousTest, AMissingValueIsNamed) {
  EXPECT_THAT(
      one_->Fetch(0, "link hidden.1", milliseconds(20)).status(),
      StatusIs(StatusCode::kDeadlineExceeded, AllOf(HasSubstr("rank 0"), HasSubstr("link hidden.1"))));
  EXPECT_THAT(one_->Fetch(2, "id", milliseconds(20)).status(),
              StatusIs(StatusCode::kInternal, HasSubstr("no rank 2")));
}

TEST_F(PeerRendezvousTest, AbortEndsAFetch) {
  std::thread aborter([&] { one_->Abort(Unavailable("rank 3 left")); });
  EXPECT_THAT(one_->Fetch(0, "id", milliseconds(30000)).status(),
              StatusIs(StatusCode::kAborted, HasSubstr("rank 3 left")));
  aborter.join();
}

}  // namespace
}  // namespace fulger
