// The steps of a rank, and the exchange of a pair between threads.
#include "worker/doctor/examiner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "kernels/device/device.h"
#include "tests/support/status_matchers.h"
#include "worker/comm/thread_fabric.h"
#include "worker/doctor/pair.h"

namespace fulger {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::Measure Between(int partner, int round = 0) {
  v1::Measure measure;
  measure.set_round(round);
  measure.set_partner(partner);
  measure.set_seconds(0.05);
  return measure;
}

TEST(MeasurePair, BothSidesLearnTheirRate) {
  ThreadWorld world(3);
  const auto run = [&world](int rank, int partner) {
    const std::unique_ptr<Fabric> fabric = world.MakeFabric(rank);
    auto device = MakeDevice("cpu", {.threads = 1});
    if (!device.ok()) return absl::StatusOr<v1::PairFacts>(device.status());
    return MeasurePair(*fabric, **device, Between(partner));
  };
  auto other = std::async(std::launch::async, run, 2, 0);
  ASSERT_OK_AND_ASSIGN(const v1::PairFacts one, run(0, 2));
  ASSERT_OK_AND_ASSIGN(const v1::PairFacts two, other.get());
  EXPECT_EQ(one.partner(), 2);
  EXPECT_EQ(two.partner(), 0);
  EXPECT_GT(one.latency_seconds(), 0);
  EXPECT_EQ(two.latency_seconds(), 0) << "the smaller rank has the watch";
  EXPECT_GT(one.bytes_per_second(), 1e6);
  EXPECT_GT(two.bytes_per_second(), 1e6);
}

TEST(MeasurePair, APartnerThatDoesNotComeIsNamed) {
  ThreadWorld world(2, {.deadline = std::chrono::milliseconds(50)});
  const std::unique_ptr<Fabric> fabric = world.MakeFabric(0);
  ASSERT_OK_AND_ASSIGN(const auto device, MakeDevice("cpu", {.threads = 1}));
  EXPECT_THAT(MeasurePair(*fabric, *device, Between(1)).status(),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("from rank 1")));
  EXPECT_THAT(MeasurePair(*fabric, *device, Between(0)).status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("cannot measure the way to rank 0")));
}

class ExaminerTest : public testing::Test {
 protected:
  v1::Examined Ask(const v1::Examine& step) {
    std::promise<v1::WorkerMessage> answer;
    on_answer_ = [&answer](const v1::WorkerMessage& message) { answer.set_value(message); };
    examiner_.Push(step);
    const v1::WorkerMessage message = answer.get_future().get();
    EXPECT_EQ(message.epoch(), 7U);
    EXPECT_EQ(message.rank(), 1);
    return message.examined();
  }

  std::vector<absl::Status> unreached_;
  std::function<void(const v1::WorkerMessage&)> on_answer_;
  Examiner examiner_{1,
                     7,
                     {.host = "127.0.0.1"},
                     [this](const v1::WorkerMessage& message) { on_answer_(message); },
                     [this](int, std::span<const std::string>) { return unreached_; },
                     [](std::span<const std::string>) -> Rendezvous* { return nullptr; }};
};

TEST_F(ExaminerTest, LooksAndSaysWhatItIs) {
  v1::Examine step;
  step.mutable_look()->set_node(true);
  v1::Examined found = Ask(step);
  EXPECT_EQ(found.error(), "");
  EXPECT_GT(found.rank().allowed_cores(), 0);
  EXPECT_THAT(found.rank().arithmetic(), HasSubstr("cpu"));
  EXPECT_TRUE(found.has_node());
  EXPECT_FALSE(found.has_checkpoint());
  step.mutable_look()->set_node(false);
  EXPECT_FALSE(Ask(step).has_node());
  EXPECT_FALSE(examiner_.busy());
}

TEST_F(ExaminerTest, DoesNotConnectToHostsThatItDoesNotReach) {
  v1::Examine look;
  look.mutable_look();
  Ask(look);
  unreached_ = {Unavailable("rank 1 at a cannot reach rank 2 at b: no")};
  v1::Examine step;
  step.mutable_connect()->set_transport("mpi");
  const v1::Examined found = Ask(step);
  EXPECT_THAT(found.unreachable(), ElementsAre("rank 1 at a cannot reach rank 2 at b: no"));
  EXPECT_EQ(found.error(), "");
}

TEST_F(ExaminerTest, StepsOutOfOrderAreErrorsAndNoEnd) {
  v1::Examine step;
  step.mutable_measure()->set_partner(0);
  EXPECT_THAT(Ask(step).error(), HasSubstr("not connected"));
  EXPECT_TRUE(examiner_.busy()) << "after a failure MPI cannot be ended in order";
  step.mutable_connect();
  EXPECT_THAT(Ask(step).error(), HasSubstr("without its device"));
  EXPECT_THAT(Ask(v1::Examine()).error(), HasSubstr("one build"));
}

}  // namespace
}  // namespace fulger
