// The life of a replica with fake streams and a clock that the tests own.
#include "coordinator/cluster/replica.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "coordinator/cluster/replica_test_util.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST_F(ReplicaTest, AssignsWhenAllHaveJoined) {
  for (int r = kRanks - 1; r > 0; --r) {
    Join(r);
    EXPECT_THAT(workers_[r]->sent, SizeIs(1)) << "its clock is asked for, nothing else";
    EXPECT_TRUE(workers_[r]->sent[0]->has_ping());
  }
  EXPECT_EQ(replica_.Info().phase, ReplicaPhase::kGathering);
  Join(0);
  EXPECT_EQ(replica_.Info().phase, ReplicaPhase::kLoading);
  for (int r = 0; r < kRanks; ++r) {
    ASSERT_THAT(workers_[r]->sent, SizeIs(2));
    ASSERT_TRUE(workers_[r]->sent[1]->has_assign());
    EXPECT_EQ(workers_[r]->sent[1]->epoch(), 1U);
    const v1::Assign& assign = workers_[r]->sent[1]->assign();
    EXPECT_EQ(assign.rank(), r);
    EXPECT_EQ(assign.layout().pp(), 2);
    EXPECT_EQ(assign.layout().tp(), 2);
    EXPECT_EQ(assign.layout().ep(), 2);
    EXPECT_EQ(assign.layout().dp(), 1);
    EXPECT_EQ(assign.layout().vision(), 1);
    EXPECT_EQ(assign.plan_hash(), plan_.hash);
    EXPECT_THAT(assign.peer_addresses(), ElementsAre("127.0.0.1:5000", "127.0.0.1:5001", "127.0.0.1:5002",
                                                     "127.0.0.1:5003", "127.0.0.1:5004"));
    EXPECT_EQ(assign.block_size(), 16);
    EXPECT_EQ(assign.max_step_tokens(), 512);
    EXPECT_EQ(assign.max_sequences(), 8);
    EXPECT_EQ(assign.cache_tokens(), 4096);
    EXPECT_EQ(assign.max_context(), 1000);
    EXPECT_EQ(assign.model_dir(), "/models/demo");
    EXPECT_EQ(assign.fingerprint(), "abcd");
    EXPECT_EQ(assign.transport(), "mpi");
    EXPECT_EQ(assign.weight_dtype(), "keep");
  }
}

TEST_F(ReplicaTest, ServesWithTheCapacityOfTheSmallestRank) {
  JoinAll();
  Ready(0, 70, 8);
  Ready(1, 50, 8);
  Ready(2, 60, 6);
  Ready(3, INT32_MAX, 7);
  EXPECT_THAT(events_.ups, IsEmpty());
  Ready(4, 1, 1);  // a vision rank has no cache: it does not count
  ASSERT_THAT(events_.ups, SizeIs(1));
  const auto& [epoch, capacity] = events_.ups[0];
  EXPECT_EQ(epoch, 1U);
  EXPECT_EQ(capacity.blocks, 50);
  EXPECT_EQ(capacity.block_size, 16);
  EXPECT_EQ(capacity.slots, 6);
  EXPECT_EQ(capacity.max_step_tokens, 512);
  EXPECT_EQ(capacity.stages, 2);
  const ReplicaInfo info = replica_.Info();
  EXPECT_EQ(info.phase, ReplicaPhase::kServing);
  EXPECT_TRUE(info.ever_served);
  ASSERT_THAT(info.ranks, SizeIs(kRanks));
  EXPECT_EQ(info.ranks[3].host, "h3");
  EXPECT_EQ(info.ranks[3].pid, 1003);
  EXPECT_EQ(info.ranks[3].bytes.at("kv"), 13);
  EXPECT_EQ(info.ranks[3].phase, "ready");
}

TEST_F(ReplicaTest, RefusesAnotherPlan) {
  JoinAll();
  v1::WorkerMessage message = From(3);
  message.mutable_ready()->set_plan_hash("0123456789abcdef");
  Send(3, message);
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(events_.downs[0], AllOf(HasSubstr("rank 3 (host h3, pid 1003) made plan 0123456789ab"),
                                      HasSubstr(plan_.hash.substr(0, 12)), HasSubstr("config.json")));
  EXPECT_EQ(failures_, events_.downs);
  EXPECT_EQ(workers_[0]->ShutdownReason(), events_.downs[0]) << "the others end too, and know why";
  EXPECT_TRUE(workers_[0]->finished);
}

TEST_F(ReplicaTest, RefusesRanksThatRoundDifferently) {
  JoinAll();
  Ready(0);
  v1::WorkerMessage message = From(2);
  message.mutable_ready()->set_plan_hash(plan_.hash);
  message.mutable_ready()->set_arithmetic("cpu portable");
  message.mutable_ready()->set_description("an old processor");
  Send(2, message);
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(events_.downs[0],
              AllOf(HasSubstr("rank 2 (host h2, pid 1002) computes with cpu portable arithmetic (an old "
                              "processor), rank 0 (host h0, pid 1000) with cpu fma"),
                    HasSubstr("--kernels")));
}

TEST_F(ReplicaTest, AFailureOfOneRankIsTold) {
  JoinAll();
  v1::WorkerMessage message = From(2);
  message.mutable_failed()->set_phase(v1::PHASE_LOAD);
  message.mutable_failed()->set_message("model-00002.safetensors: truncated");
  Send(2, message);
  EXPECT_THAT(
      events_.downs,
      ElementsAre("rank 2 (host h2, pid 1002) failed during load: model-00002.safetensors: truncated"));
  EXPECT_FALSE(replica_.Info().ever_served);
}

TEST_F(ReplicaTest, PlansGoToTheFirstOfEachStageAndToVisionRanks) {
  Serve();
  Submit(1);
  for (const int r : {0, 2, 4}) {
    const auto plans = workers_[r]->Sent(v1::CoordinatorMessage::kPlan);
    ASSERT_THAT(plans, SizeIs(1)) << "rank " << r;
    EXPECT_EQ(plans[0]->plan().step(), 1U);
  }
  for (const int r : {1, 3}) {
    EXPECT_THAT(workers_[r]->Sent(v1::CoordinatorMessage::kPlan), IsEmpty()) << "rank " << r;
  }
}

TEST_F(ReplicaTest, RelaysResultsOfThisEpochOnly) {
  Serve();
  Submit(1);
  v1::WorkerMessage message = From(2);
  message.mutable_result()->set_step(1);
  Send(2, message);
  ASSERT_THAT(events_.results, SizeIs(1));
  EXPECT_EQ(events_.results[0]->step(), 1U);

  replica_.Fail(Unavailable("test"));
  Send(2, message);  // of epoch 1, on a stream of epoch 1
  EXPECT_THAT(events_.results, SizeIs(1));
  auto old = workers_;
  Serve();
  EXPECT_EQ(replica_.Info().epoch, 2U);
  ASSERT_THAT(events_.ups, SizeIs(2));
  EXPECT_EQ(events_.ups[1].first, 2U);
  Send(2, message);  // of epoch 1, on a stream of epoch 2
  replica_.OnMessage(old[2], From(2, 2));
  EXPECT_THAT(events_.results, SizeIs(1));
  replica_.OnClosed(old[2]);  // the old stream ends at last: no harm to the new replica
  EXPECT_EQ(replica_.Info().phase, ReplicaPhase::kServing);
}

TEST_F(ReplicaTest, PlansOfAnOlderEpochAreDropped) {
  Serve();
  auto plan = std::make_shared<v1::StepPlan>();
  plan->set_epoch(0);
  plan->set_step(1);
  replica_.Submit(plan);
  EXPECT_THAT(workers_[0]->Sent(v1::CoordinatorMessage::kPlan), IsEmpty());
}

TEST_F(ReplicaTest, NamesTheRankThatIsGone) {
  Serve();
  Pong(1, "step 7, layer 2, all-reduce");
  replica_.OnClosed(workers_[1]);
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_EQ(events_.downs[0],
            "rank 1 (host h1, pid 1001) is gone; last seen in: step 7, layer 2, all-reduce");
  const ReplicaInfo info = replica_.Info();
  EXPECT_EQ(info.phase, ReplicaPhase::kGathering);
  EXPECT_EQ(info.epoch, 2U);
  EXPECT_EQ(info.restarts, 1U);
  EXPECT_EQ(info.last_failure, events_.downs[0]);
  for (const RankInfo& rank : info.ranks) EXPECT_FALSE(rank.joined);
  // The streams of the others close too: that is the same failure.
  for (int r = 0; r < kRanks; ++r) replica_.OnClosed(workers_[r]);
  EXPECT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(failures_, SizeIs(1));
}

TEST_F(ReplicaTest, AWorkerMayLeaveAndComeBackWhileOthersAreAwaited) {
  Join(0);
  Join(1);
  replica_.OnClosed(workers_[0]);
  EXPECT_THAT(events_.downs, IsEmpty());
  EXPECT_FALSE(replica_.Info().ranks[0].joined);
  JoinAll();  // rank 1 is there already
  EXPECT_THAT(workers_[1]->ShutdownReason(), HasSubstr("claims rank 1"));
  EXPECT_TRUE(workers_[1]->finished);
  EXPECT_EQ(replica_.Info().phase, ReplicaPhase::kLoading);
}

TEST_F(ReplicaTest, RefusesAWorkerWhileServing) {
  Serve();
  const auto member = workers_[2];
  Join(2);
  EXPECT_THAT(workers_[2]->ShutdownReason(),
              HasSubstr("one too many: all 5 ranks of the layout have joined"));
  EXPECT_FALSE(workers_[2]->Sent(v1::CoordinatorMessage::kShutdown)[0]->shutdown().clean());
  EXPECT_TRUE(workers_[2]->finished);
  EXPECT_FALSE(member->finished);
  EXPECT_EQ(replica_.Info().phase, ReplicaPhase::kServing);
}

TEST_F(ReplicaTest, TheGatherDeadlineNamesTheMissingRanks) {
  clock_.Advance(std::chrono::hours(1));
  replica_.Tick();  // nobody there yet: somebody may start the workers later
  EXPECT_THAT(events_.downs, IsEmpty());
  Join(0);
  Join(3);
  clock_.Advance(std::chrono::seconds(119));
  replica_.Tick();
  EXPECT_THAT(events_.downs, IsEmpty());
  clock_.Advance(std::chrono::seconds(2));
  replica_.Tick();
  ASSERT_THAT(events_.downs, SizeIs(1));
  EXPECT_THAT(events_.downs[0], AllOf(HasSubstr("rendezvous: after 121 s 2 of 5 ranks have joined"),
                                      HasSubstr("missing: 1, 2, 4")));
  EXPECT_TRUE(workers_[3]->finished);
}

TEST(Replica, WorkersThatWereStartedMustJoinInTime) {
  ManualClock clock;
  FakeEvents events;
  ReplicaOptions options;
  options.startup.launch = std::chrono::seconds(120);
  Replica replica(FiveRanks(), options, &clock);
  replica.SetEvents(&events);
  clock.Advance(std::chrono::seconds(121));
  replica.Tick();
  ASSERT_THAT(events.downs, SizeIs(1));
  EXPECT_THAT(events.downs[0], HasSubstr("0 of 5 ranks have joined"));
}

TEST_F(ReplicaTest, PicturesGoToTheirVisionRankInParts) {
  Serve();
  auto image = std::make_shared<PreparedImage>();
  image->key = std::string(32, 'k');
  image->tiles.resize((size_t{2} << 20) + 5);
  std::iota(image->tiles.begin(), image->tiles.end(), uint8_t{0});
  image->tile_count = 3;
  image->height = 100;
  image->width = 200;
  replica_.Encode(1, {image});
  for (int r = 0; r < 4; ++r) EXPECT_THAT(workers_[r]->Sent(v1::CoordinatorMessage::kTiles), IsEmpty());
  const auto parts = workers_[4]->Sent(v1::CoordinatorMessage::kTiles);
  ASSERT_THAT(parts, SizeIs(3));
  std::string bytes;
  for (const auto& message : parts) {
    const v1::TilesPart& part = message->tiles();
    EXPECT_EQ(part.key(), image->key);
    EXPECT_EQ(part.tiles(), 3);
    EXPECT_EQ(part.height(), 100);
    EXPECT_EQ(part.width(), 200);
    EXPECT_EQ(part.offset(), static_cast<int64_t>(bytes.size()));
    EXPECT_LE(part.data().size(), size_t{1} << 20);
    EXPECT_EQ(part.last(), message == parts.back());
    bytes += part.data();
  }
  EXPECT_EQ(bytes, std::string(image->tiles.begin(), image->tiles.end()));

  replica_.Encode(0, {image});  // of an older epoch
  EXPECT_THAT(workers_[4]->Sent(v1::CoordinatorMessage::kTiles), SizeIs(3));

  replica_.Withdraw(1, {image->key});
  const auto withdrawn = workers_[4]->Sent(v1::CoordinatorMessage::kWithdraw);
  ASSERT_THAT(withdrawn, SizeIs(1));
  EXPECT_THAT(withdrawn[0]->withdraw().keys(), ElementsAre(image->key));
  EXPECT_THAT(workers_[0]->Sent(v1::CoordinatorMessage::kWithdraw), IsEmpty());
}

std::shared_ptr<const PreparedImage> SmallImage(const std::string& key, size_t bytes) {
  auto image = std::make_shared<PreparedImage>();
  image->key = key;
  image->tiles.resize(bytes);
  return image;
}

TEST_F(ReplicaTest, AVisionRankSeesForItselfWhatSharesAPass) {
  Serve();
  replica_.Encode(1, {SmallImage("a", 5), SmallImage("b", 5)});
  for (const auto& message : workers_[4]->Sent(v1::CoordinatorMessage::kTiles))
    EXPECT_FALSE(message->tiles().more());
}

class StageEncodesTest : public ReplicaTest {
 protected:
  StageEncodesTest() : ReplicaTest(/*vision=*/0) {}
};

TEST_F(StageEncodesTest, PicturesOfAPassAreMarked) {
  Serve();
  replica_.Encode(1, {SmallImage("a", (size_t{1} << 20) + 1), SmallImage("b", 5)});
  replica_.Encode(1, {SmallImage("c", 5)});
  std::vector<std::pair<std::string, bool>> sent;
  for (const auto& message : workers_[0]->Sent(v1::CoordinatorMessage::kTiles))
    sent.emplace_back(message->tiles().key(), message->tiles().more());
  EXPECT_THAT(sent, ElementsAre(std::pair("a", true), std::pair("a", true), std::pair("b", false),
                                std::pair("c", false)));
  replica_.Withdraw(1, {"c"});
  EXPECT_THAT(workers_[0]->Sent(v1::CoordinatorMessage::kWithdraw), IsEmpty()) << "it is in a pass already";
}

class Timings final : public TimingListener {
 public:
  void OnTiming(const std::string& replica, uint64_t epoch, const v1::RankTiming& timing,
                double clock_offset) override {
    heard.push_back(fmt::format("replica {} epoch {} rank {} step {} at {:.1f}", replica, epoch,
                                timing.rank(), timing.step(), timing.start_seconds() + clock_offset));
  }
  std::vector<std::string> heard;
};

TEST_F(ReplicaTest, TimesAreSummedAndToldToWhoeverListens) {
  Serve();
  const auto timing = [&](int rank, uint64_t step, double start) {
    v1::WorkerMessage message = From(rank);
    v1::RankTiming* t = message.mutable_timing();
    t->set_rank(rank);
    t->set_step(step);
    t->set_start_seconds(start);
    t->set_total_seconds(2);
    t->set_wait_seconds(0.5);
    t->set_collective_seconds(0.25);
    t->set_collective_bytes(100);
    t->set_link_bytes(10);
    t->add_expert_rows(3);
    t->add_expert_rows(4);
    t->set_encode(step == 0);
    t->set_pictures(step == 0 ? 2 : 0);
    t->set_tiles(step == 0 ? 5 : 0);
    return message;
  };
  const auto pong = [&](int rank, uint64_t id, double clock) {
    v1::WorkerMessage message = From(rank);
    message.mutable_pong()->set_id(id);
    message.mutable_pong()->set_clock_seconds(clock);
    Send(rank, message);
  };
  // Rank 1's clock is 1000 s ahead of ours as the shorter of two pings says; rank 0's is ours as far as a
  // ping can tell.
  clock_.Advance(std::chrono::seconds(10));
  replica_.Tick();
  clock_.Advance(std::chrono::milliseconds(200));
  pong(1, 1, 1010.1);
  pong(0, 1, 10.01);
  replica_.Tick();
  clock_.Advance(std::chrono::seconds(1));
  pong(1, 2, 1020);             // took longer: not believed
  Send(1, timing(1, 1, 1010));  // nobody listens
  Timings timings;
  replica_.SetTimingListener(&timings);
  Send(1, timing(1, 2, 1011));
  Send(0, timing(0, 2, 11.5));
  Send(4, timing(4, 0, 12));  // a pass of two pictures
  replica_.SetTimingListener(nullptr);
  Send(1, timing(1, 3, 1012));
  EXPECT_THAT(timings.heard, ElementsAre("replica 0 epoch 1 rank 1 step 2 at 11.0",
                                         "replica 0 epoch 1 rank 0 step 2 at 11.5",
                                         "replica 0 epoch 1 rank 4 step 0 at 12.0"));
  const ReplicaInfo info = replica_.Info();
  const RankTimes& one = info.ranks[1].times;
  EXPECT_EQ(one.steps, 3u);
  EXPECT_DOUBLE_EQ(one.total, 6);
  EXPECT_DOUBLE_EQ(one.wait, 1.5);
  EXPECT_DOUBLE_EQ(one.collective, 0.75);
  EXPECT_EQ(one.collective_bytes, 300u);
  EXPECT_EQ(one.link_bytes, 30u);
  EXPECT_THAT(one.expert_rows, ElementsAre(9, 12));
  EXPECT_EQ(info.ranks[4].times.steps, 0u);
  EXPECT_EQ(info.ranks[4].times.pictures, 2u);
  EXPECT_EQ(info.ranks[4].times.tiles, 5u);
  EXPECT_EQ(info.ranks[4].times.passes, 1u);
  EXPECT_DOUBLE_EQ(info.ranks[4].times.encode, 2);
}

TEST_F(ReplicaTest, PlansAskForActivitiesWhileSomebodyListens) {
  Serve();
  const auto submit = [&](uint64_t step) {
    auto plan = std::make_shared<v1::StepPlan>();
    plan->set_epoch(1);
    plan->set_step(step);
    replica_.Submit(plan);
    return workers_[0]->Sent(v1::CoordinatorMessage::kPlan).back()->plan().trace();
  };
  Timings timings;
  EXPECT_FALSE(submit(1));
  replica_.SetTimingListener(&timings);
  EXPECT_TRUE(submit(2));
  replica_.SetTimingListener(nullptr);
  EXPECT_FALSE(submit(3));
}

TEST_F(ReplicaTest, TellsOfFeaturesAndTheirErrors) {
  Serve();
  v1::WorkerMessage message = From(4);
  message.mutable_features_ready()->set_key("k1");
  Send(4, message);
  message.mutable_features_ready()->set_key("k2");
  message.mutable_features_ready()->set_error("NaN in layer 3 of the tower");
  Send(4, message);
  ASSERT_THAT(events_.features, SizeIs(2));
  EXPECT_EQ(events_.features[0].first, "k1");
  EXPECT_OK(events_.features[0].second);
  EXPECT_THAT(events_.features[1].second,
              StatusIs(absl::StatusCode::kDataLoss, "NaN in layer 3 of the tower"));
}

// Ranks 0 to 3 hold layers; the vision rank is not asked.
TEST_F(ReplicaTest, StatesAreSavedWhenTheLastRankHasSaidSo) {
  Serve();
  v1::SaveStates wanted;
  wanted.set_folder("/state");
  wanted.add_sequences()->set_slot(3);
  replica_.Save(replica_.Info().epoch + 1, wanted);  // not of this epoch
  for (const int rank : {0, 2}) EXPECT_FALSE(workers_[rank]->sent.back()->has_save());
  replica_.Save(replica_.Info().epoch, wanted);
  for (const int rank : {0, 2}) EXPECT_EQ(workers_[rank]->sent.back()->save().sequences(0).slot(), 3) << rank;
  for (const int rank : {1, 3, 4}) EXPECT_FALSE(workers_[rank]->sent.back()->has_save()) << rank;
  for (const int rank : {3, 0, 2, 1}) {
    EXPECT_THAT(events_.saved, IsEmpty());
    v1::WorkerMessage message = From(rank);
    message.mutable_states_saved()->add_pieces()->set_bytes(100 + rank);
    if (rank == 2) message.mutable_states_saved()->set_error("disk full");
    Send(rank, message);
  }
  ASSERT_THAT(events_.saved, SizeIs(1));
  ASSERT_THAT(events_.saved[0], SizeIs(4));
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_EQ(events_.saved[0][static_cast<size_t>(rank)].pieces(0).bytes(), 100 + rank);
  }
  EXPECT_EQ(events_.saved[0][2].error(), "rank 2 (host h2, pid 1002): disk full");
}

TEST_F(ReplicaTest, AStateIsFetchedWhenTheLastRankHasIt) {
  Serve();
  v1::SavedState state;
  for (const uint64_t id : {7, 8}) {
    state.set_id(id);
    replica_.Fetch(replica_.Info().epoch, state);
    EXPECT_EQ(workers_[2]->sent.back()->fetch().state().id(), id);
    EXPECT_FALSE(workers_[4]->sent.back()->has_fetch());
  }
  const auto answer = [&](int rank, uint64_t id, const std::string& error) {
    v1::WorkerMessage message = From(rank);
    message.mutable_state_fetched()->set_id(id);
    message.mutable_state_fetched()->set_error(error);
    Send(rank, message);
  };
  for (int rank = 0; rank < 4; ++rank) {
    EXPECT_THAT(events_.fetched, IsEmpty());
    answer(rank, 9, "");  // nobody asked
    answer(rank, 8, rank == 1 ? "damaged" : "");
  }
  for (int rank = 0; rank < 4; ++rank) answer(rank, 7, "");
  ASSERT_THAT(events_.fetched, SizeIs(2));
  EXPECT_EQ(events_.fetched[0].first, 8u);
  EXPECT_THAT(Message(events_.fetched[0].second), AllOf(HasSubstr("rank 1 ("), HasSubstr("damaged")));
  EXPECT_EQ(events_.fetched[1].first, 7u);
  EXPECT_OK(events_.fetched[1].second);
}

TEST_F(ReplicaTest, StopIsCleanAndFinal) {
  Serve();
  replica_.Stop("the server stops");
  for (int r = 0; r < kRanks; ++r) {
    const auto messages = workers_[r]->Sent(v1::CoordinatorMessage::kShutdown);
    ASSERT_THAT(messages, SizeIs(1));
    EXPECT_TRUE(messages[0]->shutdown().clean());
    EXPECT_TRUE(workers_[r]->finished);
    replica_.OnClosed(workers_[r]);
  }
  EXPECT_THAT(events_.downs, IsEmpty());
  EXPECT_THAT(failures_, IsEmpty());
  Join(0);
  EXPECT_THAT(workers_[0]->ShutdownReason(), HasSubstr("stopping"));
}

}  // namespace
}  // namespace fulger
