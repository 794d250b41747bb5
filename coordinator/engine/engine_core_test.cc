#include "coordinator/engine/engine_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "coordinator/engine/engine_test_util.h"
#include "coordinator/engine/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

// Epochs come and go by the hundred below.
[[maybe_unused]] const bool kQuiet = (InitLogging("engine_test", LogLevel::kError), true);

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Observer final : public EngineObserver {
 public:
  void OnStep(const StepRecord& record) override {
    steps.push_back(record);
    for (const double s : record.first_token) first_token.push_back(s);
    for (const double s : record.token_gap) token_gap.push_back(s);
  }
  void OnRequestDone(const RequestRecord& record) override {
    requests.push_back(record);
    requests.back().id = {};  // ends with the call
    requests.back().request = {};
  }
  std::vector<StepRecord> steps;  // without the spans, which end with the call
  std::vector<double> first_token, token_gap;
  std::vector<RequestRecord> requests;
};

class EngineCoreTest : public testing::Test {
 protected:
  static constexpr ReplicaCapacity kCapacity = {
      .blocks = 20, .block_size = 4, .slots = 4, .max_step_tokens = 16, .stages = 1};

  ~EngineCoreTest() override { EXPECT_THAT(backend_.violations(), IsEmpty()); }

  std::shared_ptr<RecordingSink> Submit(EngineRequest request, size_t stop_at = 0) {
    auto sink = std::make_shared<RecordingSink>(stop_at);
    core_.Submit(std::move(request), sink);
    core_.Pump();
    return sink;
  }
  void RunToEnd() {
    while (backend_.AnswerPicture(&events_) || backend_.AnswerStep(&events_)) {
    }
  }

  EngineConfig config_{.max_step_tokens = 8, .max_context = 100, .feature_cache_bytes = 400};
  ManualClock clock_;
  Observer observer_;
  FakeBackend backend_{kCapacity};
  std::vector<std::string> ended_;
  EngineCore core_{
      config_, {&backend_}, &clock_, &observer_, [this](const std::string& id) { ended_.push_back(id); }};
  CoreEvents events_{&core_};
};

TEST_F(EngineCoreTest, AnIdleReplicaIsProbed) {
  EXPECT_EQ(core_.last_step_time(), TimePoint{});
  backend_.Up(&events_);
  events_.OnProbeDue(1);
  ASSERT_THAT(backend_.plans(), testing::SizeIs(1));
  EXPECT_TRUE(backend_.plans()[0]->probe());
  events_.OnProbeDue(1);
  EXPECT_THAT(backend_.plans(), testing::SizeIs(1)) << "one is in flight";
  clock_.Advance(std::chrono::seconds(3));
  RunToEnd();
  EXPECT_EQ(core_.last_step_time(), clock_.Now());
  EXPECT_EQ(core_.Stats().probe_error, "");
  EXPECT_EQ(core_.Stats().steps, 0u) << "a probe is no work";
  EXPECT_THAT(observer_.steps, IsEmpty());

  const EngineRequest a = MakeRequest("a", {1, 2, 3}, 5);
  const auto sink = Submit(a);
  const size_t plans = backend_.plans().size();
  events_.OnProbeDue(1);
  EXPECT_EQ(backend_.plans().size(), plans) << "steps in flight show as much";
  RunToEnd();
  EXPECT_EQ(sink->tokens(), ToyReference(a, 100).tokens);

  backend_.Kill(&events_);
  EXPECT_EQ(core_.last_step_time(), TimePoint{}) << "a new epoch proves itself";
  backend_.Up(&events_);
  events_.OnProbeDue(1);
  EXPECT_THAT(backend_.plans(), IsEmpty()) << "asked for by the epoch before";
  events_.OnProbeDue(2);
  EXPECT_THAT(backend_.plans(), testing::SizeIs(1));
  RunToEnd();
}

TEST_F(EngineCoreTest, AProbeThatFailsIsTold) {
  backend_.Up(&events_);
  backend_.FailProbes("layer 3 attention: not finite");
  events_.OnProbeDue(1);
  RunToEnd();
  EXPECT_EQ(core_.Stats().probe_error, "layer 3 attention: not finite");
  backend_.FailProbes("");
  events_.OnProbeDue(1);
  RunToEnd();
  EXPECT_EQ(core_.Stats().probe_error, "");
}

TEST_F(EngineCoreTest, DeliversTheReferenceAndFreesEverything) {
  backend_.Up(&events_);
  const EngineRequest a = MakeRequest("a", {1, 2, 3}, 5);
  EngineRequest b = MakeRequest("b", {4, 5, 6, 7, 8, 9, 10, 11, 12, 13}, 50);
  b.sampling.add_stop_ids(ToyReference(b, 100).tokens[3]);
  const auto sink_a = Submit(a);
  const auto sink_b = Submit(b);
  RunToEnd();
  EXPECT_EQ(sink_a->tokens(), ToyReference(a, 100).tokens);
  EXPECT_EQ(sink_a->done()->reason, FinishReason::kLength);
  EXPECT_EQ(sink_a->done()->prompt_tokens, 3);
  EXPECT_EQ(sink_a->done()->completion_tokens, 5);
  EXPECT_EQ(sink_b->tokens(), ToyReference(b, 100).tokens);
  EXPECT_EQ(sink_b->tokens().size(), 3u);
  EXPECT_EQ(sink_b->done()->reason, FinishReason::kStopId);
  EXPECT_EQ(sink_b->done()->stop_id, b.sampling.stop_ids(0));
  EXPECT_THAT(ended_, testing::UnorderedElementsAre("a", "b"));
  const EngineStats stats = core_.Stats();
  EXPECT_EQ(stats.running + stats.waiting + stats.blocks_used + stats.slots_used, 0);
  EXPECT_EQ(stats.prompt_tokens, 13u);
  EXPECT_EQ(stats.generated_tokens, 8u);
}

TEST_F(EngineCoreTest, AStopStringEndsAtOnceAndTokensBeyondAreNotCharged) {
  backend_.Up(&events_);
  const EngineRequest a = MakeRequest("a", {1, 2, 3}, 50);
  const auto sink = Submit(a, /*stop_at=*/2);
  RunToEnd();
  EXPECT_EQ(sink->tokens().size(), 2u);
  EXPECT_EQ(sink->done()->reason, FinishReason::kStopString);
  EXPECT_EQ(sink->done()->completion_tokens, 2);
  EXPECT_EQ(core_.Stats().blocks_used, 0);
}

TEST_F(EngineCoreTest, CancelEndsWithinTheCallAndFreesWhenTheStepsInFlightAnswer) {
  backend_.Up(&events_);
  const auto sink = Submit(MakeRequest("a", {1, 2, 3}, 50));
  backend_.AnswerStep(&events_);
  core_.Cancel("a");
  core_.Cancel("nobody");
  EXPECT_EQ(sink->done()->reason, FinishReason::kCancelled);
  EXPECT_EQ(sink->done()->completion_tokens, 1);
  core_.Pump();
  const size_t plans = backend_.plans().size();
  const size_t in_flight = plans - 1;  // one was answered
  ASSERT_GT(in_flight, 0U);
  for (size_t i = 0; i < in_flight; ++i) {
    EXPECT_GT(core_.Stats().slots_used, 0) << "a step in flight writes to the slot";
    ASSERT_TRUE(backend_.AnswerStep(&events_));
  }
  EXPECT_EQ(core_.Stats().slots_used + core_.Stats().blocks_used, 0);
  EXPECT_EQ(backend_.plans().size(), plans) << "nobody is there to run another step for";
  EXPECT_TRUE(backend_.idle());
  EXPECT_FALSE(sink->called_after_done());
}

TEST_F(EngineCoreTest, AFailedSequenceHurtsNobodyElse) {
  backend_.Up(&events_);
  const auto bad = Submit(MakeRequest("bad", {1, kPoisonId, 3}, 50));
  const EngineRequest good = MakeRequest("good", {1, 2, 3}, 20);
  const auto sink = Submit(good);
  RunToEnd();
  EXPECT_EQ(bad->done()->reason, FinishReason::kError);
  EXPECT_THAT(bad->done()->error, StatusIs(absl::StatusCode::kInternal, "layer 3: not a number"));
  EXPECT_EQ(sink->tokens(), ToyReference(good, 100).tokens);
}

TEST_F(EngineCoreTest, RequestsResumeInTheNextEpochWithNoTokenRepeatedOrMissing) {
  const EngineRequest a = MakeRequest("a", {1, 2, 3}, 20);
  const EngineRequest b = MakeRequest("b", {4, 5, 6, 7}, 20);
  const auto sink_a = Submit(a);  // before any replica is up
  EXPECT_EQ(core_.Stats().waiting, 1);
  EXPECT_THAT(core_.Stats().down_reason, HasSubstr("has not come up yet"));
  backend_.Up(&events_);
  for (int i = 0; i < 4; ++i) backend_.AnswerStep(&events_);
  const auto sink_b = Submit(b);
  for (int i = 0; i < 3; ++i) backend_.AnswerStep(&events_);
  const size_t delivered = sink_a->tokens().size();
  EXPECT_GT(delivered, 3u);
  backend_.Kill(&events_, /*late=*/true);
  EXPECT_EQ(core_.Stats().down_reason, "rank 1 died");
  backend_.Up(&events_);
  EXPECT_EQ(sink_a->tokens().size(), delivered) << "a result of a dead epoch was applied";
  EXPECT_EQ(core_.Stats().replicas[0].epoch, 2u);
  // What the replica is told: the prompt, and the generated ids as output.
  const auto plan = backend_.plans().front();
  EXPECT_EQ(plan->step(), 1u);
  EXPECT_EQ(plan->new_sequences(0).prompt_count(), 3);
  EXPECT_EQ(plan->new_sequences(0).ids_size(), 3 + static_cast<int>(delivered));
  EXPECT_EQ(plan->new_sequences(0).sampling().max_tokens(), 20);
  RunToEnd();
  EXPECT_EQ(sink_a->tokens(), ToyReference(a, 100).tokens);
  EXPECT_EQ(sink_b->tokens(), ToyReference(b, 100).tokens);
}

TEST_F(EngineCoreTest, NonsenseFromTheReplicaIsIgnored) {
  backend_.Up(&events_);
  const EngineRequest a = MakeRequest("a", {1, 2, 3}, 5);
  const auto sink = Submit(a);
  v1::StepResult future;
  future.set_epoch(1);
  future.set_step(9);
  core_.Result(0, future);
  v1::StepResult strange;  // a step that did run, with sequences that it did not name
  strange.set_epoch(1);
  strange.set_step(1);
  strange.add_tokens()->set_sequence(77);
  strange.add_errors()->set_sequence(78);
  v1::SampledToken* token = strange.add_tokens();
  token->set_sequence(1);
  token->set_position(3);
  token->set_id(5);
  core_.Result(0, strange);
  EXPECT_THAT(sink->tokens(), ElementsAre(5));
  core_.FeaturesReady(0, 1, "nobody asked", absl::OkStatus());
  core_.FeaturesReady(0, 1, "nobody asked", Internal("x"));
  EXPECT_FALSE(sink->done().has_value());
  core_.Cancel("a");
}

TEST_F(EngineCoreTest, AMissingOrMisplacedTokenEndsTheRequestInsteadOfHangingIt) {
  backend_.Up(&events_);
  const auto a = Submit(MakeRequest("a", {1, 2, 3}, 5));
  v1::StepResult empty;
  empty.set_epoch(1);
  empty.set_step(1);
  core_.Result(0, empty);
  EXPECT_THAT(a->done()->error, StatusIs(absl::StatusCode::kInternal, HasSubstr("neither a token")));
  const auto b = Submit(MakeRequest("b", {1, 2, 3}, 5));
  v1::StepResult step2 = empty;  // a's second row
  step2.set_step(2);
  core_.Result(0, step2);
  core_.Pump();
  v1::StepResult misplaced = empty;
  misplaced.set_step(3);
  misplaced.add_tokens()->set_sequence(2);
  misplaced.mutable_tokens(0)->set_position(4);
  core_.Result(0, misplaced);
  EXPECT_THAT(b->done()->error, StatusIs(absl::StatusCode::kInternal, HasSubstr("position 4, expected 3")));
}

TEST_F(EngineCoreTest, LengthIsBoundedByContextAndCache) {
  const auto too_long = Submit(MakeRequest("too long", std::vector<int32_t>(81, 1), 5));
  const EngineRequest full = MakeRequest("full", std::vector<int32_t>(70, 1), 1000);
  const auto sink = Submit(full);
  backend_.Up(&events_);  // 20 blocks of 4: 80 positions run, and the token after the last
  EXPECT_THAT(too_long->done()->error,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "the prompt has 81 tokens; the cache of the replica leaves room for at most 80"));
  RunToEnd();
  EXPECT_EQ(sink->tokens(), ToyReference(full, 81).tokens);
  EXPECT_EQ(sink->tokens().size(), 11u);
  EXPECT_EQ(sink->done()->reason, FinishReason::kLength);
}

TEST_F(EngineCoreTest, PicturesAreEncodedOnceAndShared) {
  backend_.Up(&events_);
  EngineRequest a = MakeRequest("a", {1, 2, 3, 4, 5, 6}, 5);
  a.images = {{.position = 1, .image = MakeImage("cat", 3)}};
  EngineRequest b = MakeRequest("b", {9, 8, 3, 4, 5, 6}, 5);
  b.images = {{.position = 3, .image = MakeImage("cat", 3)}};
  const auto sink_a = Submit(a);
  const auto sink_b = Submit(b);
  RunToEnd();
  EXPECT_EQ(backend_.encoded(), 1);
  EXPECT_EQ(core_.Stats().pictures, 2u);
  EXPECT_EQ(core_.Stats().pictures_encoded, 1u);
  EXPECT_EQ(sink_a->tokens(), ToyReference(a, 100).tokens);
  EXPECT_EQ(sink_b->tokens(), ToyReference(b, 100).tokens);
  EXPECT_EQ(sink_a->done()->image_tokens, 3);
}

TEST_F(EngineCoreTest, AFailedPictureEndsThoseThatNeedIt) {
  backend_.Up(&events_);
  EngineRequest a = MakeRequest("a", {1, 2, 3, 4, 5, 6}, 5);
  a.images = {{.position = 1, .image = MakeImage("cat", 3)}};
  const auto sink_a = Submit(a);
  const auto sink_b = Submit(MakeRequest("b", {1, 2}, 3));
  backend_.AnswerPicture(&events_, Internal("vision rank 4: not a number"));
  EXPECT_THAT(sink_a->done()->error,
              StatusIs(absl::StatusCode::kInternal, "encoding a picture: vision rank 4: not a number"));
  RunToEnd();
  EXPECT_EQ(sink_b->tokens().size(), 3u);
}

TEST_F(EngineCoreTest, AnUnusableReplicaIsNotUsed) {
  core_.Up(0, 1, {.blocks = 0, .block_size = 4, .slots = 1, .max_step_tokens = 4, .stages = 1});
  EXPECT_FALSE(core_.Stats().ready);
  EXPECT_THAT(core_.Stats().down_reason, HasSubstr("0 blocks of 4 tokens"));
  core_.Up(0, 1, kCapacity);  // an old epoch
  EXPECT_FALSE(core_.Stats().ready);
}

TEST_F(EngineCoreTest, TheObserverSeesPhases) {
  clock_.Advance(std::chrono::seconds(1));
  const auto sink = Submit(MakeRequest("a", {1, 2, 3}, 3));
  clock_.Advance(std::chrono::seconds(2));  // waits for a replica
  backend_.Up(&events_);
  clock_.Advance(std::chrono::seconds(4));
  backend_.AnswerStep(&events_);  // first token
  clock_.Advance(std::chrono::seconds(8));
  backend_.AnswerStep(&events_);
  clock_.Advance(std::chrono::seconds(16));
  RunToEnd();
  ASSERT_EQ(observer_.requests.size(), 1u);
  const RequestRecord& r = observer_.requests[0];
  EXPECT_DOUBLE_EQ(r.completion.times.queue, 2);
  EXPECT_DOUBLE_EQ(r.completion.times.prefill, 4);
  EXPECT_DOUBLE_EQ(r.completion.times.decode, 24);
  EXPECT_DOUBLE_EQ(r.completion.times.total, 30);
  EXPECT_EQ(r.completion.reason, FinishReason::kLength);
  EXPECT_THAT(observer_.first_token, ElementsAre(6));
  EXPECT_THAT(observer_.token_gap, ElementsAre(8, 16));
  ASSERT_EQ(observer_.steps.size(), 3u);
  EXPECT_EQ(observer_.steps[0].prefill_tokens, 3);
  EXPECT_EQ(observer_.steps[0].decode_rows, 0);
  EXPECT_DOUBLE_EQ(observer_.steps[1].seconds, 12);  // was submitted with the first
  EXPECT_EQ(observer_.steps[1].decode_rows, 1);
}

TEST(CheckRequestTest, NamesWhatIsWrong) {
  const EngineConfig config{.max_context = 10, .feature_cache_bytes = 8, .feature_row_bytes = 4};
  const auto check = [&](const EngineRequest& request) { return CheckRequest(config, request); };
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  EXPECT_OK(check(MakeRequest("a", std::vector<int32_t>(9, 1), 1000)));
  EXPECT_THAT(check(MakeRequest("a", std::vector<int32_t>(10, 1), 1)),
              StatusIs(kInvalid, "the prompt has 10 tokens; the context of 10 leaves room for at most 9"));
  EXPECT_THAT(check(MakeRequest("a", {}, 1)), StatusIs(kInvalid, HasSubstr("prompt is empty")));
  EXPECT_THAT(check(MakeRequest("a", {1}, 0)), StatusIs(kInvalid, HasSubstr("max_tokens is 0")));
  EngineRequest request = MakeRequest("a", {1, 2, 3}, 1);
  request.images = {{.position = 2, .image = MakeImage("cat", 2)}};
  EXPECT_THAT(check(request), StatusIs(kInvalid, HasSubstr("picture at position 2 of 3")));
  request.images = {{.position = 0, .image = MakeImage("cat", 2)},
                    {.position = 1, .image = MakeImage("dog", 1)}};
  EXPECT_THAT(check(request), StatusIs(kInvalid, HasSubstr("after position 2")));
  request.images = {{.position = 0, .image = MakeImage("cat", 3)}};
  EXPECT_THAT(check(request), StatusIs(kInvalid, HasSubstr("the feature cache holds 8 bytes")));
}

// Everything at once, deterministic: batching, preemption, pictures, cancels, stop strings, kills.
class RandomRun {
 public:
  explicit RandomRun(uint64_t seed)
      : random_(seed),
        capacity_{.blocks = Between(8, 40),
                  .block_size = Between(1, 5),
                  .slots = Between(1, 9),
                  .max_step_tokens = Between(1, 30),
                  .stages = Between(1, 4)},
        backend_(capacity_),
        core_(Config(), {&backend_}, &clock_, nullptr, [this](const std::string&) { --live_; }),
        events_(&core_) {}

  void Run(int requests) {
    max_length_ = capacity_.blocks * capacity_.block_size + 1;
    backend_.Up(&events_);
    for (int submitted = 0; submitted < requests || live_ > 0;) {
      if (submitted < requests && live_ < 20 && Chance(3)) Submit(std::to_string(submitted++));
      if (Chance(60)) Cancel();
      if (Chance(80)) {
        backend_.Kill(&events_, /*late=*/Chance(2));
        if (Chance(2)) Cancel();
        backend_.Up(&events_);
      }
      if (Chance(3)) backend_.AnswerPicture(&events_);
      if (Chance(2)) backend_.AnswerStep(&events_);
      ASSERT_FALSE(live_ > 0 && backend_.idle()) << "requests wait and nothing is in flight";
    }
    while (backend_.AnswerStep(&events_)) {
    }
    ASSERT_THAT(backend_.violations(), IsEmpty());
    EXPECT_EQ(core_.Stats().blocks_used + core_.Stats().slots_used, 0);
    for (const auto& [request, sink] : all_) ExpectReference(request, *sink);
  }
  EngineStats stats() const { return core_.Stats(); }

 private:
  EngineConfig Config() {
    return {.max_running_requests = Between(1, 9),
            .anchors = Between(0, 5),
            .anchor_rules = {.interval = Between(0, 12), .min_gap = Between(1, 4)},
            .max_step_tokens = Between(1, 30),
            .steps_in_flight = Between(1, 3),
            .feature_cache_bytes = 4 * 7,
            .max_images_encoding = Between(1, 3)};
  }
  bool Chance(uint64_t one_in) { return random_() % one_in == 0; }
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }

  void Submit(const std::string& id) {
    EngineRequest request = RandomRequest(&random_, id, std::min<int64_t>(40, max_length_ - 1));
    if (!all_.empty() && Chance(2)) ContinueConversation(&request);
    request.priority = static_cast<int32_t>(Between(-1, 1));
    request.use_anchors = !Chance(9);
    for (int64_t p = Between(1, 9); p < std::ssize(request.prompt); p += Between(1, 9)) {
      request.borders.push_back(p);
    }
    auto sink = std::make_shared<RecordingSink>(Chance(5) ? static_cast<size_t>(Between(1, 9)) : 0);
    all_.emplace_back(request, sink);
    ++live_;
    core_.Submit(std::move(request), std::move(sink));
    core_.Pump();
  }

  // The next turn of an earlier request: its prompt, what it got, something new.
  void ContinueConversation(EngineRequest* request) {
    const auto& [earlier, sink] = all_[static_cast<size_t>(Between(0, std::ssize(all_) - 1))];
    std::vector<int32_t> prompt = earlier.prompt;
    for (const int32_t token : sink->tokens()) prompt.push_back(token);
    prompt.push_back(request->prompt.front());
    if (std::ssize(prompt) >= std::min<int64_t>(60, max_length_)) return;
    request->prompt = std::move(prompt);
    request->images = earlier.images;
  }

  void Cancel() {
    if (all_.empty()) return;
    core_.Cancel(all_[static_cast<size_t>(Between(0, std::ssize(all_) - 1))].first.id);
    core_.Pump();
  }

  void ExpectReference(const EngineRequest& request, const RecordingSink& sink) {
    const ToyAnswer reference = ToyReference(request, max_length_);
    std::vector<int32_t> expected = reference.tokens;
    const std::vector<int32_t> tokens = sink.tokens();
    ASSERT_TRUE(sink.done().has_value());
    EXPECT_FALSE(sink.called_after_done());
    if (sink.done()->reason == FinishReason::kCancelled) {
      ASSERT_LE(tokens.size(), expected.size());
      expected.resize(tokens.size());
    } else if (sink.stop_at() > 0 && sink.stop_at() <= expected.size()) {
      EXPECT_EQ(sink.done()->reason, FinishReason::kStopString);
      expected.resize(sink.stop_at());
    } else {
      EXPECT_EQ(sink.done()->reason, reference.reason);
      EXPECT_EQ(sink.done()->stop_id, reference.stop_id);
    }
    EXPECT_EQ(tokens, expected) << "request " << request.id;
    EXPECT_EQ(sink.done()->completion_tokens, std::ssize(expected));
  }

  std::mt19937_64 random_;
  const ReplicaCapacity capacity_;
  ManualClock clock_;
  FakeBackend backend_;
  EngineCore core_;
  CoreEvents events_;
  int64_t max_length_ = 0;
  int64_t live_ = 0;
  std::vector<std::pair<EngineRequest, std::shared_ptr<RecordingSink>>> all_;
};

TEST(EngineCoreRandomTest, EveryRequestGetsTheReferenceTokens) {
  uint64_t preemptions = 0, hits = 0;
  for (uint64_t seed = 0; seed < 150; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomRun run(seed);
    run.Run(40);
    if (testing::Test::HasFailure()) return;
    preemptions += run.stats().preemptions;
    hits += run.stats().anchor_hits;
  }
  EXPECT_GT(preemptions, 100u);
  EXPECT_GT(hits, 300u);
}

}  // namespace
}  // namespace fulger
