// Answers that follow a grammar, and prompts that are scored.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_test_util.h"
#include "coordinator/engine/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr ReplicaCapacity kCapacity = {
    .blocks = 20, .block_size = 4, .slots = 4, .max_step_tokens = 16, .stages = 1};

std::string BitsOf(int32_t remainder) {
  std::string bits((kToyVocabulary + 7) / 8, '\0');
  for (int32_t id = remainder; id < kToyVocabulary; id += 3)
    bits[static_cast<size_t>(id / 8)] |= char(1 << id % 8);
  return bits;
}

// Token number n must be n modulo 3; each place of every answer has a mask of its own, so that many are made.
class Thirds final : public TokenConstraint {
 public:
  explicit Thirds(uint64_t base) : base_(base) {}
  absl::StatusOr<std::shared_ptr<const TokenMask>> Advance(int32_t id) override {
    if (id % 3 != count_ % 3) return Internal("token {} at place {}", id, count_);
    ++count_;
    if (count_ == fail_at) return InvalidArgument("too complicated");
    return Mask();
  }
  std::shared_ptr<const TokenMask> Mask() const {
    return std::make_shared<TokenMask>(
        TokenMask{.id = base_ + static_cast<uint64_t>(count_), .bits = BitsOf(count_ % 3)});
  }
  int32_t fail_at = -1;

 private:
  const uint64_t base_;
  int32_t count_ = 0;
};

EngineRequest Constrained(const std::string& id, std::vector<int32_t> prompt, int32_t max_tokens,
                          uint64_t base, int32_t fail_at = -1) {
  EngineRequest request = MakeRequest(id, std::move(prompt), max_tokens);
  auto thirds = std::make_shared<Thirds>(base);
  thirds->fail_at = fail_at;
  request.first_mask = thirds->Mask();
  request.constraint = std::move(thirds);
  return request;
}

void ExpectThirds(const std::vector<int32_t>& tokens, size_t count) {
  ASSERT_EQ(tokens.size(), count);
  for (size_t i = 0; i < count; ++i) EXPECT_EQ(tokens[i] % 3, static_cast<int32_t>(i % 3)) << i;
}

// The real thread, so that masks are made apart from it. Others run on meanwhile; replicas die.
TEST(EngineConstraintTest, EveryTokenIsOneOfTheMasks) {
  const EngineConfig config{.max_step_tokens = 8, .max_context = 100, .feature_cache_bytes = 400};
  SteadyClock clock;
  FakeBackend backend(kCapacity);
  const auto engine = Engine::Create(config, {&backend}, &clock);
  backend.Up(engine->Events(0));
  backend.Start(engine->Events(0), 1);
  std::vector<std::shared_ptr<RecordingSink>> constrained;
  std::vector<std::pair<EngineRequest, std::shared_ptr<RecordingSink>>> free;
  for (int i = 0; i < 12; ++i) {
    constrained.push_back(std::make_shared<RecordingSink>());
    ASSERT_OK(engine->Submit(
        Constrained("c" + std::to_string(i), {1, i, 3}, 60, 1 + 100 * static_cast<uint64_t>(i)),
        constrained.back()));
    free.emplace_back(MakeRequest("f" + std::to_string(i), {2, i, 5, 8}, 40),
                      std::make_shared<RecordingSink>());
    ASSERT_OK(engine->Submit(free.back().first, free.back().second));
    if (i == 5) {
      backend.Kill(engine->Events(0), /*late=*/true);
      backend.Up(engine->Events(0));
    }
  }
  for (const auto& sink : constrained) {
    EXPECT_EQ(sink->Wait().reason, FinishReason::kLength);
    ExpectThirds(sink->tokens(), 60);
  }
  for (const auto& [request, sink] : free) {
    sink->Wait();
    EXPECT_EQ(sink->tokens(), ToyReference(request, 80).tokens) << request.id;
  }
  backend.Stop();
  EXPECT_GT(engine->Stats().preemptions, 0u);
  EXPECT_THAT(backend.violations(), IsEmpty());
}

class EngineCoreConstraintTest : public testing::Test {
 protected:
  // Answers the oldest step with these scores of sequence 1 added.
  ManualClock clock_;
  FakeBackend backend_{kCapacity};
  EngineCore core_{
      {.max_step_tokens = 8, .max_context = 100}, {&backend_}, &clock_, nullptr, [](const std::string&) {}};
};

TEST_F(EngineCoreConstraintTest, AMaskThatCannotBeMadeEndsItsRequestAlone) {
  CoreEvents events(&core_);
  backend_.Up(&events);
  auto bad = std::make_shared<RecordingSink>(), good = std::make_shared<RecordingSink>();
  core_.Submit(Constrained("bad", {1, 2}, 10, 1, /*fail_at=*/3), bad);
  core_.Submit(Constrained("good", {1, 2}, 10, 100), good);
  core_.Pump();
  // One row of each at a time: a second step would need a mask that is not there.
  EXPECT_EQ(backend_.plans().size(), 1u);
  while (backend_.AnswerStep(&events)) core_.Pump();
  EXPECT_EQ(bad->done()->reason, FinishReason::kError);
  EXPECT_THAT(bad->done()->error,
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("complicated")));
  ExpectThirds(bad->tokens(), 3);
  ExpectThirds(good->tokens(), 10);
  EXPECT_THAT(backend_.violations(), IsEmpty());
}

TEST_F(EngineCoreConstraintTest, AConstraintWithoutAMaskIsRefused) {
  EngineRequest request = Constrained("a", {1}, 3, 1);
  request.first_mask = nullptr;
  EXPECT_THAT(CheckRequest({}, request),
              StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr("first mask")));
}

// A replica that dies amid a prompt scores it anew: each position is delivered once.
TEST_F(EngineCoreConstraintTest, ScoresComeOnceEach) {
  class ScoreSink final : public ResponseSink {
   public:
    Next OnToken(const Token&) override { return Next::kContinue; }
    void OnDone(const Completion&) override {}
    void OnPromptScores(const v1::PromptScores& scores, int first) override {
      for (int i = first; i < scores.tokens_size(); ++i) positions.push_back(scores.position() + i);
    }
    std::vector<int64_t> positions;
  };
  auto sink = std::make_shared<ScoreSink>();
  EngineRequest request = MakeRequest("a", {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 3);
  request.sampling.set_prompt_logprobs(1);
  core_.Up(0, 1, kCapacity);
  core_.Submit(std::move(request), sink);
  core_.Pump();
  const auto answer = [this](uint64_t epoch, uint64_t step, int64_t position, int count) {
    v1::StepResult result;
    result.set_epoch(epoch);
    result.set_step(step);
    v1::PromptScores* scores = result.add_prompt_scores();
    scores->set_sequence(1);
    scores->set_position(position);
    for (int i = 0; i < count; ++i) scores->add_tokens()->set_id(static_cast<int32_t>(position) + 1 + i);
    core_.Result(0, result);
  };
  answer(1, 1, 1, 8);
  core_.Down(0, Unavailable("gone"));
  core_.Up(0, 2, kCapacity);
  core_.Pump();
  answer(2, 1, 1, 8);
  answer(2, 2, 9, 1);
  EXPECT_THAT(sink->positions, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9));
}

}  // namespace
}  // namespace fulger
