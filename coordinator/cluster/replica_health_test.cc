// Deadlines of a replica: who is late, who stalls, and when a step is asked for to see.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/cluster/replica.h"
#include "coordinator/cluster/replica_test_util.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(ReplicaTest, ALoadWithoutProgressIsEnded) {
  JoinAll();
  for (int r = 0; r < kRanks; ++r) {
    if (r != 1) Ready(r);
  }
  v1::WorkerMessage progress = From(1);
  progress.mutable_progress()->set_phase(v1::PHASE_LOAD);
  progress.mutable_progress()->set_fraction(0.5);
  clock_.Advance(std::chrono::seconds(599));
  Send(1, progress);
  EXPECT_EQ(replica_.Info().ranks[1].phase, "load");
  EXPECT_EQ(replica_.Info().ranks[1].fraction, 0.5);
  clock_.Advance(std::chrono::seconds(599));
  replica_.Tick();
  EXPECT_THAT(events_.downs, IsEmpty()) << "progress counts, not the time of the whole";
  clock_.Advance(std::chrono::seconds(2));
  replica_.Tick();
  EXPECT_THAT(
      events_.downs,
      ElementsAre(AllOf(HasSubstr("rank 1 (host h1, pid 1001) made no progress for 601 s in phase load; the "
                                  "others: ready: 0 2 3 4"),
                        HasSubstr("the file system does not answer"))));
}

TEST_F(ReplicaTest, EveryPhaseOfAStartHasItsOwnDeadlineAndAdvice) {
  JoinAll();
  v1::WorkerMessage progress = From(3);
  progress.mutable_progress()->set_phase(v1::PHASE_COMMUNICATORS);
  for (int r = 0; r < kRanks; ++r) {
    if (r != 3) Ready(r);
  }
  Send(3, progress);
  Pong(3, "connecting ranks");
  clock_.Advance(std::chrono::seconds(179));
  replica_.Tick();
  EXPECT_THAT(events_.downs, IsEmpty());
  clock_.Advance(std::chrono::seconds(2));
  replica_.Tick();
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(events_.downs[0],
              AllOf(HasSubstr("in phase communicators (connecting ranks); the others: ready: 0 1 2 4"),
                    HasSubstr("NCCL_SOCKET_IFNAME")));
}

TEST_F(ReplicaTest, ARankThatGoesWhileItLoadsSaysWhereToLook) {
  JoinAll();
  v1::WorkerMessage progress = From(2);
  progress.mutable_progress()->set_phase(v1::PHASE_LOAD);
  Send(2, progress);
  replica_.OnClosed(workers_[2]);
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(events_.downs[0],
              AllOf(HasSubstr("rank 2 (host "), HasSubstr("is gone in phase load"), HasSubstr("dmesg")));
}

TEST_F(ReplicaTest, AStuckStepListsWhatEveryRankDoes) {
  Serve();
  Submit(1);
  Submit(2);
  v1::WorkerMessage result = From(2);
  result.mutable_result()->set_step(1);
  Send(2, result);
  for (int r = 0; r < kRanks - 1; ++r) Pong(r, fmt::format("layer {}", r));
  clock_.Advance(std::chrono::seconds(59));
  replica_.Tick();
  EXPECT_THAT(events_.downs, IsEmpty());
  clock_.Advance(std::chrono::seconds(2));
  replica_.Tick();
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(events_.downs[0],
              AllOf(HasSubstr("step 2 has run for 61 s"), HasSubstr("rank 0 (host h0, pid 1000): layer 0"),
                    HasSubstr("rank 3 (host h3, pid 1003): layer 3"), HasSubstr("pid 1004): ?")));
}

TEST_F(ReplicaTest, AnIdleReplicaHasNoDeadline) {
  Serve();
  clock_.Advance(std::chrono::hours(24));
  replica_.Tick();
  EXPECT_THAT(events_.downs, IsEmpty());
  EXPECT_THAT(workers_[1]->Sent(v1::CoordinatorMessage::kPing), SizeIs(2)) << "when it joined, and now";
}

TEST_F(ReplicaTest, AsksForAProbeWhenItComesUpAndWhenItIdles) {
  Serve();
  EXPECT_THAT(events_.probes, ElementsAre(1));
  clock_.Advance(std::chrono::seconds(19));
  replica_.Tick();
  EXPECT_THAT(events_.probes, SizeIs(1));
  clock_.Advance(std::chrono::seconds(1));
  replica_.Tick();
  replica_.Tick();
  EXPECT_THAT(events_.probes, ElementsAre(1, 1)) << "once an interval";
  Submit(1);
  clock_.Advance(std::chrono::seconds(30));
  replica_.Tick();
  EXPECT_THAT(events_.probes, SizeIs(2)) << "a step is in flight: its own deadline holds";
  v1::WorkerMessage result = From(2);
  result.mutable_result()->set_step(1);
  Send(2, result);
  for (int r = 0; r < kRanks; ++r) Pong(r, "idle", 1);
  replica_.Tick();
  EXPECT_THAT(events_.probes, SizeIs(2)) << "an answer is as good as a probe";
  clock_.Advance(std::chrono::seconds(20));
  replica_.Tick();
  EXPECT_THAT(events_.probes, SizeIs(3));
}

// The last stage answers while rank 4, the tower, hangs.
TEST_F(ReplicaTest, ARankThatNobodyWaitsForIsNamedWhenItHangs) {
  Serve();
  Submit(1);
  v1::WorkerMessage result = From(2);
  result.mutable_result()->set_step(1);
  Send(2, result);
  for (int r = 0; r < 4; ++r) Pong(r, "idle", 1);
  Pong(4, "vision layer 3", 0);
  clock_.Advance(std::chrono::seconds(40));
  Pong(4, "vision layer 4", 0);
  clock_.Advance(std::chrono::seconds(60));
  Pong(4, "vision layer 4", 0);
  replica_.Tick();
  EXPECT_THAT(events_.downs, IsEmpty()) << "it moved within the deadline";
  clock_.Advance(std::chrono::seconds(1));
  replica_.Tick();
  EXPECT_THAT(events_.downs,
              ElementsAre("rank 4 (host h4, pid 1004) has not run step 1 (its last is 0) and has "
                          "been in the same place for 61 s: vision layer 4"));
}

TEST_F(ReplicaTest, SaysWhichRanksStall) {
  const auto ranks = [this] { return replica_.Info().ranks; };
  Serve();
  clock_.Advance(std::chrono::seconds(100));
  Pong(1, "idle", 0);
  EXPECT_EQ(ranks()[1].stalled_seconds, 0) << "nobody waits for it";
  Submit(1);
  clock_.Advance(std::chrono::seconds(1));
  for (int r = 1; r < kRanks; ++r) Pong(r, "layer 1: all-reduce", 0);
  clock_.Advance(std::chrono::seconds(30));
  for (int r = 1; r < kRanks; ++r) Pong(r, "layer 1: all-reduce", 0);
  EXPECT_EQ(ranks()[1].stalled_seconds, 30);
  EXPECT_EQ(ranks()[0].stalled_seconds, 131);
  Pong(1, "idle", 1);
  EXPECT_EQ(ranks()[1].stalled_seconds, 0);
}

TEST_F(ReplicaTest, CountsTheFailuresBeforeItServed) {
  JoinAll();
  v1::WorkerMessage progress = From(1);
  progress.mutable_progress()->set_phase(v1::PHASE_LOAD);
  progress.mutable_progress()->set_fraction(0.25);
  Send(1, progress);
  EXPECT_EQ(replica_.Info().ranks[0].load_ratio, 0);
  EXPECT_EQ(replica_.Info().ranks[1].load_ratio, 0.25);
  clock_.Advance(std::chrono::seconds(10));
  progress.mutable_progress()->set_fraction(0.5);
  progress.mutable_progress()->set_bytes_per_second(7e9);
  Send(1, progress);
  EXPECT_EQ(replica_.Info().ranks[1].load_rate, 7e9);
  EXPECT_EQ(replica_.Info().ranks[1].load_seconds_left, 10);
  EXPECT_EQ(replica_.Info().ranks[0].load_rate, 0);
  progress.mutable_progress()->set_phase(v1::PHASE_WARM_UP);
  progress.mutable_progress()->set_fraction(0);
  Send(1, progress);
  EXPECT_EQ(replica_.Info().ranks[1].load_ratio, 1);
  EXPECT_EQ(replica_.Info().ranks[1].load_rate, 0);
  Ready(0);
  clock_.Advance(std::chrono::seconds(9));
  EXPECT_EQ(replica_.Info().ranks[0].stalled_seconds, 0) << "it waits for the others";
  EXPECT_EQ(replica_.Info().ranks[1].stalled_seconds, 9);
  replica_.Fail(Unavailable("a disk"));
  EXPECT_EQ(replica_.Info().start_failures, 1);
  Serve();
  replica_.Fail(Unavailable("a rank"));
  EXPECT_EQ(replica_.Info().start_failures, 1);
  EXPECT_EQ(replica_.Info().restarts, 2);
}

}  // namespace
}  // namespace fulger
