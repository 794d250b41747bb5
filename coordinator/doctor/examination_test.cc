// Workers that answer by hand, under a clock that the test owns.
#include "coordinator/doctor/examination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "coordinator/cluster/replica_test_util.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class ExaminationTest : public testing::Test {
 protected:
  explicit ExaminationTest(
      ExaminationOptions options = {.version = "1.2.3", .ranks = 3, .transport = "mpi", .model_dir = "/m"})
      : examination_(OwnTime(std::move(options)), &clock_) {}

  double WallSeconds() const { return 1.7e9 + Seconds(clock_.Now().time_since_epoch()); }
  ExaminationOptions OwnTime(ExaminationOptions options) const {
    options.wall_seconds = [this] { return WallSeconds(); };
    return options;
  }

  void Join(int rank, int world = 3, const std::string& transport = "mpi") {
    workers_[rank] = std::make_shared<FakeConnection>();
    v1::WorkerMessage message;
    v1::Hello* hello = message.mutable_hello();
    hello->set_version("1.2.3");
    hello->set_rank_hint(rank);
    hello->set_world_hint(world);
    hello->set_host("h" + std::to_string(rank + 1));
    hello->set_pid(100 + rank);
    hello->set_transport(transport);
    hello->set_peer_address(fmt::format("10.0.0.{}:5000", rank + 1));
    examination_.OnMessage(workers_[rank], message);
  }
  // The last question that this rank was asked.
  v1::Examine Asked(int rank) {
    const auto all = workers_[rank]->Sent(v1::CoordinatorMessage::kExamine);
    return all.empty() ? v1::Examine() : all.back()->examine();
  }
  void Answer(int rank, const v1::Examined& found) {
    v1::WorkerMessage message;
    message.set_epoch(1);
    message.set_rank(rank);
    *message.mutable_examined() = found;
    examination_.OnMessage(workers_[rank], message);
  }
  void AnswerAll(const std::vector<int>& ranks = {0, 1, 2}) {
    for (const int rank : ranks) Answer(rank, {});
  }
  void Pong(int rank, const std::string& activity) {
    v1::WorkerMessage message;
    message.mutable_pong()->set_activity(activity);
    examination_.OnMessage(workers_[rank], message);
  }
  void Pass(int seconds) {
    clock_.Advance(std::chrono::seconds(seconds));
    examination_.Tick();
  }
  v1::Examined Way(int rank) {
    const v1::Measure measure = Asked(rank).measure();
    v1::Examined found;
    found.set_round(measure.round());
    found.mutable_pair()->set_partner(measure.partner());
    found.mutable_pair()->set_bytes_per_second(1e9 + rank);
    return found;
  }
  void UpToMeasuring() {
    for (int rank = 0; rank < 3; ++rank) Join(rank);
    AnswerAll();  // looked
    AnswerAll();  // reached
    AnswerAll();  // connected
  }

  ManualClock clock_;
  Examination examination_;
  std::map<int, std::shared_ptr<FakeConnection>> workers_;
};

TEST_F(ExaminationTest, AsksStepByStep) {
  for (const int rank : {2, 0, 1}) Join(rank);
  EXPECT_TRUE(Asked(0).look().node());
  EXPECT_EQ(Asked(2).look().model_dir(), "/m");
  EXPECT_EQ(Asked(2).look().reader(), 2);
  EXPECT_EQ(Asked(2).look().readers(), 3);
  EXPECT_EQ(Asked(2).rank(), 2);
  AnswerAll({0, 1});
  EXPECT_TRUE(Asked(0).has_look()) << "until all have answered";
  AnswerAll({2});
  EXPECT_THAT(Asked(1).connect().peer_addresses(),
              ElementsAre("10.0.0.1:5000", "10.0.0.2:5000", "10.0.0.3:5000"));
  EXPECT_EQ(Asked(1).connect().transport(), "");
  AnswerAll();
  EXPECT_EQ(Asked(1).connect().transport(), "mpi");
  AnswerAll();
  for (const auto& [one, other] : {std::pair(0, 1), std::pair(0, 2), std::pair(1, 2)}) {
    EXPECT_FALSE(examination_.done());
    EXPECT_EQ(Asked(one).measure().partner(), other);
    EXPECT_EQ(Asked(other).measure().partner(), one);
    Answer(one, Way(one));
    Answer(other, Way(other));
  }
  ASSERT_TRUE(examination_.done());
  const ExamRecord record = examination_.Record();
  EXPECT_EQ(record.ended, "");
  EXPECT_THAT(record.ways, SizeIs(6));
  EXPECT_EQ(record.rounds_done, 3U);
  examination_.Dismiss();
  for (const auto& [rank, worker] : workers_) {
    const auto told = worker->Sent(v1::CoordinatorMessage::kShutdown);
    ASSERT_THAT(told, SizeIs(1));
    EXPECT_TRUE(told[0]->shutdown().clean());
  }
}

TEST_F(ExaminationTest, WhatWasSlowIsMeasuredOnceMore) {
  UpToMeasuring();
  for (const auto& [one, other] : {std::pair(0, 1), std::pair(0, 2), std::pair(1, 2)}) {
    for (const int rank : {one, other}) {
      v1::Examined found = Way(rank);
      if (one == 0 && other == 2) found.mutable_pair()->set_bytes_per_second(rank == 0 ? 1e7 : 2e7);
      Answer(rank, found);
    }
  }
  ASSERT_FALSE(examination_.done());
  EXPECT_EQ(Asked(0).measure().round(), 3);
  EXPECT_EQ(Asked(0).measure().partner(), 2);
  v1::Examined found = Way(0);
  found.mutable_pair()->set_bytes_per_second(9e8);
  Answer(0, found);
  found = Way(2);
  found.mutable_pair()->set_bytes_per_second(1.5e7);
  Answer(2, found);
  ASSERT_TRUE(examination_.done()) << "once";
  const ExamRecord record = examination_.Record();
  ASSERT_THAT(record.ways, SizeIs(6));
  EXPECT_EQ(record.ways[2].bytes_per_second, 9e8) << "the better of the two";
  EXPECT_EQ(record.ways[3].bytes_per_second, 2e7);
}

TEST_F(ExaminationTest, AMissingRankIsNamedAndTheOthersAreLookedAt) {
  Join(0);
  Join(2);
  Pass(19);
  EXPECT_FALSE(Asked(0).has_look());
  Pass(2);
  ASSERT_TRUE(Asked(0).has_look());
  AnswerAll({0, 2});
  ASSERT_TRUE(examination_.done());
  EXPECT_THAT(examination_.Record().ended,
              AllOf(HasSubstr("rendezvous: after 21 s 2 of 3 ranks have joined; missing: 1"),
                    HasSubstr("open the control port")));
  examination_.Dismiss();
  EXPECT_FALSE(workers_[0]->Sent(v1::CoordinatorMessage::kShutdown)[0]->shutdown().clean());
}

TEST_F(ExaminationTest, NobodyCame) {
  Pass(59);
  EXPECT_FALSE(examination_.done());
  Pass(2);
  EXPECT_TRUE(examination_.done());
  EXPECT_THAT(examination_.Record().ended, HasSubstr("launch: after 61 s no rank has joined"));
}

TEST_F(ExaminationTest, ARankThatHangsIsNamedWithWhatItDoes) {
  for (int rank = 0; rank < 3; ++rank) Join(rank);
  AnswerAll({0, 2});
  Pong(1, "looking at /m");
  Pass(22);
  EXPECT_FALSE(examination_.done()) << "reading has its time as well";
  Pass(2);
  ASSERT_TRUE(examination_.done());
  const ExamRecord record = examination_.Record();
  EXPECT_THAT(record.ranks[1].failure, AllOf(HasSubstr("rank 1 (host h2, pid 101) gave no answer for 24 s"),
                                             HasSubstr("looking at /m")));
  EXPECT_EQ(record.ranks[0].failure, "");
  EXPECT_THAT(record.ended, HasSubstr("were not measured"));
}

TEST_F(ExaminationTest, HostsThatDoNotReachEachOtherAreNotConnected) {
  for (int rank = 0; rank < 3; ++rank) Join(rank);
  AnswerAll();
  v1::Examined found;
  found.add_unreachable("rank 0 at h1 cannot reach rank 2 at h3: no answer");
  Answer(0, found);
  AnswerAll({1, 2});
  EXPECT_TRUE(examination_.done());
  EXPECT_EQ(Asked(1).connect().transport(), "") << "MPI would hang";
  EXPECT_THAT(examination_.Record().ranks[0].unreachable, SizeIs(1));
}

TEST_F(ExaminationTest, ARankThatDiesWhileMpiStartsEndsIt) {
  for (int rank = 0; rank < 3; ++rank) Join(rank);
  AnswerAll();
  AnswerAll();
  Pong(2, "connecting ranks");
  examination_.OnClosed(workers_[2]);
  ASSERT_TRUE(examination_.done());
  EXPECT_THAT(examination_.Record().ended,
              AllOf(HasSubstr("rank 2 (host h3, pid 102) is gone in phase communicators; last seen in: "
                              "connecting ranks"),
                    HasSubstr("two MPI versions")));
  examination_.OnClosed(workers_[0]);  // mpirun ends the others
  EXPECT_EQ(examination_.Record().ranks[0].failure, "");
}

TEST_F(ExaminationTest, APairThatHangsIsNamedAndTheOthersGoOn) {
  UpToMeasuring();
  Answer(0, Way(0));
  Answer(1, Way(1));
  v1::Examined found;
  found.set_round(1);
  found.set_error("link doctor.1.0.2: receive: nothing from rank 2 within 6000 ms");
  Answer(0, found);
  EXPECT_FALSE(examination_.done());
  Pass(9);  // rank 2 says nothing at all
  const ExamRecord record = examination_.Record();
  EXPECT_TRUE(examination_.done()) << "the last pair has no sound rank on one side";
  ASSERT_THAT(record.broken, SizeIs(1));
  EXPECT_EQ(record.broken[0].one, 0);
  EXPECT_EQ(record.broken[0].other, 2);
  EXPECT_THAT(record.broken[0].why, HasSubstr("nothing from rank 2"));
  EXPECT_THAT(record.ways, SizeIs(2));
}

TEST_F(ExaminationTest, ALauncherThatFails) {
  Join(0);
  examination_.OnLauncherEnded("mpirun exited with code 213");
  EXPECT_TRUE(examination_.done());
  EXPECT_THAT(examination_.Record().ended, HasSubstr("mpirun exited with code 213 in phase rendezvous"));
}

TEST_F(ExaminationTest, StrangersAreRefusedAndKeptInMind) {
  Join(0);
  auto stranger = std::make_shared<FakeConnection>();
  v1::WorkerMessage message;
  message.mutable_hello()->set_version("0.0.9");
  message.mutable_hello()->set_host("h9");
  examination_.OnMessage(stranger, message);
  EXPECT_THAT(examination_.Record().refused,
              ElementsAre(HasSubstr("is version 0.0.9, this coordinator is 1.2.3")));
  EXPECT_THAT(stranger->ShutdownReason(), HasSubstr("0.0.9"));
  EXPECT_TRUE(stranger->finished);
}

TEST_F(ExaminationTest, TheClockIsAskedForAtOnce) {
  Join(1);
  const auto pings = workers_[1]->Sent(v1::CoordinatorMessage::kPing);
  ASSERT_THAT(pings, SizeIs(1));
  clock_.Advance(std::chrono::milliseconds(4));
  v1::WorkerMessage message;
  message.mutable_pong()->set_id(pings[0]->ping().id());
  message.mutable_pong()->set_wall_seconds(WallSeconds() + 77);
  examination_.OnMessage(workers_[1], message);
  EXPECT_NEAR(examination_.Record().ranks[1].skew.seconds, 77, 0.01);
}

class UnknownSizeTest : public ExaminationTest {
 protected:
  UnknownSizeTest() : ExaminationTest({.version = "1.2.3"}) {}
};

TEST_F(UnknownSizeTest, TheFirstWorkerSaysHowManyThereAre) {
  Join(0, 2);
  EXPECT_FALSE(Asked(0).has_look());
  Join(1, 2);
  EXPECT_TRUE(Asked(0).has_look());
  EXPECT_EQ(examination_.Record().transport, "mpi");
  EXPECT_THAT(examination_.Record().ranks, SizeIs(2));
}

TEST_F(UnknownSizeTest, OneAloneIsLookedAtAndDone) {
  Join(0, 0, "single");
  Answer(0, {});
  EXPECT_TRUE(examination_.done());
  EXPECT_EQ(examination_.Record().ended, "");
  EXPECT_THAT(examination_.Record().ways, IsEmpty());
}

}  // namespace
}  // namespace fulger
