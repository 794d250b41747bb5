#include "coordinator/cluster/clock_skew.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/cluster/replica_test_util.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TimePoint At(double seconds) {
  return TimePoint(std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds)));
}

TEST(SkewMeter, TheRoundTripIsTheUncertainty) {
  SkewMeter meter;
  EXPECT_FALSE(meter.skew().known());
  EXPECT_EQ(meter.skew().at_least(), 0);
  meter.Asked(1, At(10), 1000);
  ASSERT_TRUE(meter.Answered(1, At(10.25), 1060.125));  // read in the middle: 60 s ahead
  EXPECT_DOUBLE_EQ(meter.skew().seconds, 60);
  EXPECT_DOUBLE_EQ(meter.skew().uncertainty, 0.125);
  EXPECT_DOUBLE_EQ(meter.skew().at_least(), 59.875);
}

TEST(SkewMeter, WhatTheWayTookIsNoSkew) {
  SkewMeter meter;
  meter.Asked(1, At(10), 1000);
  ASSERT_TRUE(meter.Answered(1, At(14), 1003.9));  // within the four seconds that it took
  EXPECT_EQ(meter.skew().at_least(), 0);
  EXPECT_THAT(DescribeSkew(meter.skew()), HasSubstr("equal to the coordinator's (to 2.0 s)"));
}

TEST(SkewMeter, KeepsTheMostExactAnswerAndOnlyThatToItsQuestion) {
  SkewMeter meter;
  meter.Asked(1, At(0), 1000);
  ASSERT_TRUE(meter.Answered(1, At(0.5), 1005.25));
  meter.Asked(2, At(1), 1001);
  EXPECT_FALSE(meter.Answered(1, At(1.0625), 1));  // late, of the first
  EXPECT_FALSE(meter.Answered(1, At(1.125), 1));
  ASSERT_TRUE(meter.Answered(2, At(1.25), 1006.125));
  EXPECT_DOUBLE_EQ(meter.skew().seconds, 5);
  EXPECT_FALSE(meter.Answered(2, At(1.25), 0)) << "answered twice";
  meter.Asked(3, At(2), 1002);
  EXPECT_FALSE(meter.Answered(3, At(4), 0)) << "less exact";
  EXPECT_DOUBLE_EQ(meter.skew().seconds, 5);
}

TEST(ClockSkew, SaysWhatItBreaks) {
  const ClockSkew small{.seconds = -2, .uncertainty = 0.001}, large{.seconds = 3600, .uncertainty = 0.01};
  EXPECT_EQ(DescribeSkew(small), "2.0 s behind the coordinator's (known to 1.0 ms)");
  EXPECT_EQ(DescribeSkew(large), "3600 s ahead of the coordinator's (known to 10.0 ms)");
  EXPECT_THAT(SkewConsequence(small), AllOf(HasSubstr("logs"), HasSubstr("chronyc"), Not(HasSubstr("TLS"))));
  EXPECT_THAT(SkewConsequence(large), AllOf(HasSubstr("TLS"), HasSubstr("munge"), HasSubstr("drains")));
}

// Answers the ping that a joining worker is sent, before it has a rank.
class SkewAtJoinTest : public ReplicaTest {
 protected:
  void JoinWithClock(int rank, double ahead) {
    Join(rank);
    const auto pings = workers_[rank]->Sent(v1::CoordinatorMessage::kPing);
    ASSERT_FALSE(pings.empty());
    clock_.Advance(std::chrono::milliseconds(10));
    v1::WorkerMessage message;
    message.set_rank(-1);
    message.mutable_pong()->set_id(pings.back()->ping().id());
    message.mutable_pong()->set_wall_seconds(WallSeconds() + ahead);
    Send(rank, message);
  }
};

TEST_F(SkewAtJoinTest, AHostIsAskedForItsClockWhenItJoins) {
  testing::internal::CaptureStderr();
  JoinWithClock(3, -7200);
  JoinWithClock(1, 0.001);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_THAT(log,
              AllOf(HasSubstr("rank 3 (host h3, pid 1003): its clock is 7200 s behind the coordinator's"),
                    HasSubstr("TLS"), Not(HasSubstr("rank 1 (host h1, pid 1001): its clock"))));
  EXPECT_NEAR(replica_.Info().ranks[3].skew.seconds, -7200, 0.02);
  EXPECT_NEAR(replica_.Info().ranks[1].skew.seconds, 0, 0.02);
}

TEST_F(SkewAtJoinTest, AHostIsNamedOnceAndItsPingsGoOn) {
  testing::internal::CaptureStderr();
  JoinWithClock(2, 50);
  for (const int rank : {0, 1, 3, 4}) Join(rank);
  replica_.Tick();
  v1::WorkerMessage message = From(2);
  message.mutable_pong()->set_id(1);
  message.mutable_pong()->set_activity("loading weights");
  message.mutable_pong()->set_wall_seconds(WallSeconds() + 50);
  Send(2, message);
  const std::string log = testing::internal::GetCapturedStderr();
  EXPECT_EQ(log.find("its clock is"), log.rfind("its clock is")) << log;
  EXPECT_EQ(replica_.Info().ranks[2].activity, "loading weights");
}

}  // namespace
}  // namespace fulger
