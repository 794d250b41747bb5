// The prefix cache over real layers: answers are those of transformers with and without a hit, for text and
// pictures, in several layouts, in bfloat16, after preemption and after a rebuild.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "coordinator/engine/engine.h"
#include "coordinator/engine/engine_test_util.h"
#include "tests/model/golden_run.h"
#include "tests/support/status_matchers.h"
#include "tests/support/thread_backend.h"

namespace fulger {
namespace {

struct Answer {
  std::vector<int32_t> tokens;
  Completion completion;
};

// An engine over a replica of rank threads, and the requests of a golden case.
class AnchorTest : public testing::Test {
 protected:
  void Start(const std::string& case_name, const Layout& layout, ThreadReplicaOptions options = {},
             DType dtype = DType::kF32, const AnchorRules& rules = {.interval = 128, .min_gap = 16}) {
    checkpoint_.reset();  // its folder may have the same name
    ASSERT_OK_AND_ASSIGN(checkpoint_, GoldenCheckpoint::Make(case_name, dtype));
    ASSERT_OK_AND_ASSIGN(config_, LoadModelConfig(checkpoint_->dir()));
    options.weights_as_f32 = dtype == DType::kF32;
    backend_ = std::make_unique<ThreadBackend>(checkpoint_->dir(), layout, options);
    engine_ = Engine::Create(
        {.max_running_requests = 4, .anchors = 8, .anchor_rules = rules, .max_step_tokens = 512},
        {backend_.get()}, &clock_);
    ASSERT_OK(backend_->Up(engine_->Events(0)));
  }
  void TearDown() override {
    backend_.reset();  // its threads call the engine
    engine_.reset();
  }

  EngineRequest Request(bool use_anchors = true) {
    const auto made = checkpoint_->Request(1);
    EXPECT_OK(made.status());
    EngineRequest request =
        MakeRequest("r" + std::to_string(++requests_), made->prompt, made->sampling.max_tokens());
    request.sampling.set_logprobs(-1);
    if (!made->pictures.empty()) {
      request.images = GoldenImages(checkpoint_->golden(), *made, config_.vision->image_size);
    }
    request.use_anchors = use_anchors;
    const auto prompt = static_cast<int64_t>(request.prompt.size());
    request.borders = {prompt / 3, prompt - 5};  // amid blocks of 16
    return request;
  }
  // The prompt, the answer to it, and a question.
  EngineRequest NextTurn(const std::vector<int32_t>& answer, bool use_anchors) {
    EngineRequest request = Request(use_anchors);
    request.prompt.insert(request.prompt.end(), answer.begin(), answer.end());
    for (int32_t id = 3; id < 20; ++id) request.prompt.push_back(id);
    return request;
  }

  std::shared_ptr<RecordingSink> Submit(EngineRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    EXPECT_OK(engine_->Submit(std::move(request), sink));
    return sink;
  }
  Answer Ask(EngineRequest request) {
    const auto sink = Submit(std::move(request));
    const Completion completion = sink->Wait();
    EXPECT_OK(completion.error);
    return {sink->tokens(), completion};
  }

  std::unique_ptr<GoldenCheckpoint> checkpoint_;
  ModelConfig config_;
  SteadyClock clock_;
  std::unique_ptr<ThreadBackend> backend_;
  std::unique_ptr<Engine> engine_;
  int requests_ = 0;
};

TEST_F(AnchorTest, AHitChangesNoAnswerInAnyLayout) {
  for (const Layout& layout :
       {Layout{}, Layout{.tp = 2, .ep = 2}, Layout{.pp = 4}, Layout{.pp = 2, .tp = 2, .vision = 1}}) {
    SCOPED_TRACE(ToString(layout));
    Start("g2_images", layout);
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> expected, checkpoint_->ExpectedTokens());
    const auto prompt = static_cast<int64_t>(Request().prompt.size());

    const Answer cold = Ask(Request());
    EXPECT_EQ(cold.tokens, expected);
    EXPECT_EQ(cold.completion.cached_tokens, 0);
    const Answer warm = Ask(Request());
    EXPECT_EQ(warm.tokens, expected);
    EXPECT_EQ(warm.completion.cached_tokens, prompt - 5);
    EXPECT_EQ(engine_->Stats().pictures_encoded, 3u);

    const Answer plain = Ask(NextTurn(expected, /*use_anchors=*/false));
    EXPECT_EQ(plain.completion.cached_tokens, 0);
    const Answer next = Ask(NextTurn(expected, /*use_anchors=*/true));
    EXPECT_EQ(next.tokens, plain.tokens);
    // The end of the turn: the last token of the length is never run.
    EXPECT_EQ(next.completion.cached_tokens, prompt + 63);

    // Another picture in the second place: the same ids, another content from there on.
    const auto other = [&](bool use_anchors) {
      EngineRequest request = Request(use_anchors);
      PreparedImage image = *request.images[1].image;
      image.key[5] ^= 1;
      for (uint8_t& pixel : image.tiles) pixel = static_cast<uint8_t>(255 - pixel);
      request.images[1].image = std::make_shared<PreparedImage>(std::move(image));
      return request;
    };
    const Answer other_plain = Ask(other(false));
    const Answer other_hit = Ask(other(true));
    EXPECT_EQ(other_hit.tokens, other_plain.tokens);
    EXPECT_GT(other_hit.completion.cached_tokens, 0);
    EXPECT_LE(other_hit.completion.cached_tokens, Request().images[1].position);
    EXPECT_EQ(other_hit.completion.cache.matched, Request().images[1].position);

    // A rebuilt replica has no anchors.
    backend_->Down(Unavailable("killed by the test"));
    ASSERT_OK(backend_->Up(engine_->Events(0)));
    const Answer rebuilt = Ask(Request());
    EXPECT_EQ(rebuilt.tokens, expected);
    EXPECT_EQ(rebuilt.completion.cached_tokens, 0);
    TearDown();
  }
}

TEST_F(AnchorTest, BFloat16WeightsToo) {
  Start("g2_long", Layout{.tp = 2}, {}, DType::kBF16);
  const Answer cold = Ask(Request());
  const Answer warm = Ask(Request());
  EXPECT_EQ(warm.tokens, cold.tokens);
  EXPECT_GT(warm.completion.cached_tokens, 200);
  const Answer plain = Ask(NextTurn(cold.tokens, false));
  const Answer next = Ask(NextTurn(cold.tokens, true));
  EXPECT_EQ(next.tokens, plain.tokens);
  EXPECT_GT(next.completion.cached_tokens, 300);
}

// A stop string ends the answer amid rows in flight; the conversation goes on with what was kept of it.
TEST_F(AnchorTest, ACutAnswerIsContinuedFromItsDeepestAnchor) {
  constexpr int64_t kInterval = 16, kSeen = 40, kKept = 37;
  class Stopping final : public ResponseSink {
   public:
    explicit Stopping(std::shared_ptr<RecordingSink> inner) : inner_(std::move(inner)) {}
    Next OnToken(const Token& token) override {
      inner_->OnToken(token);
      return ++tokens_ == kSeen ? Next::kStop : Next::kContinue;
    }
    void OnDone(const Completion& completion) override { inner_->OnDone(completion); }

   private:
    const std::shared_ptr<RecordingSink> inner_;
    int64_t tokens_ = 0;
  };
  for (const Layout& layout : {Layout{}, Layout{.pp = 4}, Layout{.pp = 2, .tp = 2}}) {
    SCOPED_TRACE(ToString(layout));
    Start("g2_images", layout, {}, DType::kF32, {.interval = kInterval, .min_gap = kInterval});
    ASSERT_OK_AND_ASSIGN(std::vector<int32_t> expected, checkpoint_->ExpectedTokens());
    const auto sink = std::make_shared<RecordingSink>();
    ASSERT_OK(engine_->Submit(Request(), std::make_shared<Stopping>(sink)));
    EXPECT_EQ(sink->Wait().reason, FinishReason::kStopString);
    EXPECT_EQ(std::ssize(sink->tokens()), kSeen);
    expected.resize(kKept);
    const Answer plain = Ask(NextTurn(expected, /*use_anchors=*/false));
    const Answer next = Ask(NextTurn(expected, /*use_anchors=*/true));
    EXPECT_EQ(next.tokens, plain.tokens);
    const auto prompt = static_cast<int64_t>(Request().prompt.size());
    EXPECT_EQ(next.completion.cached_tokens, (prompt + kKept) / kInterval * kInterval);
    TearDown();
  }
}

// Requests that need 33 blocks each for the prompt and 37 in the end, with priorities, in 68.
TEST_F(AnchorTest, PreemptedRequestsAnswerTheSame) {
  ThreadReplicaOptions options;
  options.runner.blocks = 68;
  Start("g2_images", Layout{.pp = 2}, options);
  backend_->Down(Unavailable("so that all wait"));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> expected, checkpoint_->ExpectedTokens());
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) {
    EngineRequest request = Request(/*use_anchors=*/i % 3 != 0);
    request.priority = 3 - i / 2;
    sinks.push_back(Submit(std::move(request)));
  }
  ASSERT_OK(backend_->Up(engine_->Events(0)));
  for (const auto& sink : sinks) {
    EXPECT_OK(sink->Wait().error);
    EXPECT_EQ(sink->tokens(), expected);
  }
  EXPECT_GT(engine_->Stats().preemptions, 0u);
}

// The replica dies while requests that came from anchors run.
TEST_F(AnchorTest, ARebuildAmidAHitLosesAndRepeatsNothing) {
  Start("g2_images", Layout{.pp = 2});
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> expected, checkpoint_->ExpectedTokens());
  EXPECT_EQ(Ask(Request()).tokens, expected);
  const auto sink = Submit(Request());
  while (sink->tokens().size() < 10) std::this_thread::yield();
  backend_->Down(Unavailable("killed by the test"));
  ASSERT_OK(backend_->Up(engine_->Events(0)));
  const Completion completion = sink->Wait();
  EXPECT_OK(completion.error);
  EXPECT_EQ(sink->tokens(), expected);
  EXPECT_GT(completion.cached_tokens, 0);  // of the first admission: what the prompt cost then
}

}  // namespace
}  // namespace fulger
