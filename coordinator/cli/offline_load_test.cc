// Offline load against the real engine before a toy replica, and against engines that lie.
#include "coordinator/cli/offline_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "coordinator/engine/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Answers inside Submit.
class InstantEngine final : public Engine {
 public:
  int64_t lost_tokens = 0;  // counted and not delivered, of the second request
  absl::Status refusal, failure;
  std::vector<EngineRequest> requests;

  BackendEvents* Events(size_t) override { return nullptr; }
  absl::Status Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink) override {
    if (!refusal.ok() && !requests.empty()) return refusal;
    const int64_t n = request.sampling.max_tokens();
    const int64_t lost = requests.size() == 1 ? lost_tokens : 0;
    requests.push_back(std::move(request));
    for (int64_t i = 0; i < n - lost; ++i) sink->OnToken({.id = 5});
    Completion done{.reason = FinishReason::kLength,
                    .error = requests.size() == 2 ? failure : absl::OkStatus()};
    done.prompt_tokens = std::ssize(requests.back().prompt);
    done.completion_tokens = n;
    sink->OnDone(done);
    return absl::OkStatus();
  }
  bool Cancel(const std::string&) override { return false; }
  EngineStats Stats() const override { return {}; }
  void Drain(Duration) override {}
  bool Settle(Duration) override { return true; }
  std::vector<v1::SavedRequest> Suspend(const std::string&, Duration) override { return {}; }
};

const OfflineWatch kHealthy{.health = [] { return absl::OkStatus(); }};

constexpr OfflineLoad kLoad{
    .requests = 3, .input = 40, .output = 5, .in_flight = 2, .seed = 9, .vocab = 4, .never = 2};

TEST(RunOffline, CountsWhatTheEngineAnswers) {
  SteadyClock clock;
  FakeBackend backend({.blocks = 60, .block_size = 4, .slots = 8, .max_step_tokens = 32, .stages = 1});
  const auto engine = Engine::Create({.max_running_requests = 4, .max_context = 200}, {&backend}, &clock);
  backend.Up(engine->Events(0));
  backend.Start(engine->Events(0), /*seed=*/1);
  OfflineLoad load = kLoad;
  load.requests = 30;
  load.in_flight = 8;
  ASSERT_OK_AND_ASSIGN(OfflineFigures figures, RunOffline(load, *engine, kHealthy));
  engine->Drain(std::chrono::minutes(1));
  EXPECT_EQ(figures.requests, 30);
  EXPECT_EQ(figures.prompt_tokens, 30 * 40);
  EXPECT_EQ(figures.generated_tokens, 30 * 5);
  EXPECT_GT(figures.seconds, 0);
  EXPECT_OK(CheckTotals(figures, engine->Stats()));
  ++figures.generated_tokens;
  EXPECT_THAT(
      CheckTotals(figures, engine->Stats()),
      StatusIs(absl::StatusCode::kDataLoss, HasSubstr("150 generated; the answers had 1200 and 151")));
  backend.Stop();
  EXPECT_THAT(backend.violations(), IsEmpty());
}

TEST(RunOffline, DrawsPromptsFromTheSeedAndNeverThePictureToken) {
  InstantEngine a, b, c;
  ASSERT_OK(RunOffline(kLoad, a, kHealthy).status());
  ASSERT_OK(RunOffline(kLoad, b, kHealthy).status());
  OfflineLoad other = kLoad;
  other.seed = 10;
  ASSERT_OK(RunOffline(other, c, kHealthy).status());
  std::set<std::vector<int32_t>> prompts;
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(a.requests[i].prompt, b.requests[i].prompt);
    EXPECT_NE(a.requests[i].prompt, c.requests[i].prompt);
    prompts.insert(a.requests[i].prompt);
    const std::set<int32_t> ids(a.requests[i].prompt.begin(), a.requests[i].prompt.end());
    EXPECT_EQ(ids, (std::set<int32_t>{0, 1, 3}));
    EXPECT_FALSE(a.requests[i].use_anchors);
    EXPECT_TRUE(a.requests[i].sampling.stop_ids().empty());
  }
  EXPECT_EQ(prompts.size(), 3U);
}

TEST(RunOffline, ALostTokenDoesNotBalance) {
  InstantEngine engine;
  engine.lost_tokens = 1;
  EXPECT_THAT(RunOffline(kLoad, engine, kHealthy).status(),
              StatusIs(absl::StatusCode::kDataLoss, HasSubstr("request offline-1: expected")));
}

TEST(RunOffline, ARequestThatFailsOrIsRefusedIsAnError) {
  InstantEngine failing, refusing;
  failing.failure = Unavailable("the rank is gone");
  EXPECT_THAT(RunOffline(kLoad, failing, kHealthy).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("the rank is gone")));
  refusing.refusal = InvalidArgument("too long");
  EXPECT_THAT(RunOffline(kLoad, refusing, kHealthy).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too long")));
  EXPECT_EQ(refusing.requests.size(), 1U);
}

TEST(RunOffline, AReplicaThatGivesUpEndsTheRun) {
  SteadyClock clock;
  FakeBackend never({.blocks = 60, .block_size = 4, .slots = 8, .max_step_tokens = 32, .stages = 1});
  const auto engine = Engine::Create({.max_running_requests = 4, .max_context = 200}, {&never}, &clock);
  OfflineFigures seen{.requests = -1};
  const OfflineWatch watch{.health = [] { return Unavailable("rank 1 died"); },
                           .progress = [&seen](const OfflineFigures& so_far) { seen = so_far; }};
  EXPECT_THAT(RunOffline(kLoad, *engine, watch).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("rank 1 died")));
  EXPECT_EQ(seen.requests, 0) << "progress was shown before";
  engine->Drain(std::chrono::minutes(1));
  EXPECT_EQ(engine->Stats().waiting, 0) << "what waited was cancelled";
}

}  // namespace
}  // namespace fulger
