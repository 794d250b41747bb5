// The thread around the core: mailbox, admission at the door, drain, and everything at once (for TSan).
#include "coordinator/engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/engine/engine_test_util.h"
#include "coordinator/engine/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr ReplicaCapacity kCapacity = {
    .blocks = 30, .block_size = 4, .slots = 6, .max_step_tokens = 16, .stages = 2};
constexpr int64_t kMaxLength = 121;

class EngineTest : public testing::Test {
 protected:
  ~EngineTest() override { EXPECT_THAT(backend_.violations(), IsEmpty()); }

  absl::Status Submit(EngineRequest request, std::shared_ptr<RecordingSink> sink) {
    return engine_->Submit(std::move(request), std::move(sink));
  }

  SteadyClock clock_;
  FakeBackend backend_{kCapacity};
  std::unique_ptr<Engine> engine_ =
      Engine::Create({.max_queued_requests = 3, .max_context = 200}, {&backend_}, &clock_);
};

TEST_F(EngineTest, AnswersAndDrains) {
  backend_.Up(engine_->Events(0));
  backend_.Start(engine_->Events(0), 1);
  const EngineRequest request = MakeRequest("a", {1, 2, 3}, 20);
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_OK(Submit(request, sink));
  EXPECT_EQ(sink->Wait().reason, FinishReason::kLength);
  EXPECT_EQ(sink->tokens(), ToyReference(request, kMaxLength).tokens);
  engine_->Drain(std::chrono::minutes(1));
  EXPECT_THAT(Submit(request, sink), StatusIs(absl::StatusCode::kUnavailable, HasSubstr("stopping")));
  const EngineStats stats = engine_->Stats();
  EXPECT_TRUE(stats.ready);
  EXPECT_EQ(stats.generated_tokens, 20u);
  EXPECT_EQ(stats.running, 0);
  EXPECT_GE(stats.seconds_since_step, 0);
  backend_.Stop();
}

TEST_F(EngineTest, RefusesAtTheDoor) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (const char* id : {"a", "b", "c"}) {
    sinks.push_back(std::make_shared<RecordingSink>());
    ASSERT_OK(Submit(MakeRequest(id, {1}, 5), sinks.back()));
  }
  const auto sink = std::make_shared<RecordingSink>();
  EXPECT_THAT(Submit(MakeRequest("a", {1}, 5), sink),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("a")));
  EXPECT_THAT(Submit(MakeRequest("d", {1}, 5), sink),
              StatusIs(absl::StatusCode::kResourceExhausted, "3 requests are waiting, at most 3 may"));
  EXPECT_THAT(Submit(MakeRequest("d", std::vector<int32_t>(200), 5), sink),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("context of 200")));
  EXPECT_FALSE(engine_->Cancel("d"));
  EXPECT_TRUE(engine_->Cancel("b"));
  EXPECT_EQ(sinks[1]->Wait().reason, FinishReason::kCancelled);
  // Nobody answers: the deadline cancels the rest.
  engine_->Drain(Duration(0));
  EXPECT_EQ(sinks[0]->done()->reason, FinishReason::kCancelled);
  EXPECT_EQ(sinks[2]->done()->reason, FinishReason::kCancelled);
}

TEST_F(EngineTest, APromptBeyondTheCacheIsRefusedOnceAReplicaIsUp) {
  backend_.Up(engine_->Events(0));
  backend_.Start(engine_->Events(0), 1);
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_OK(Submit(MakeRequest("a", {1}, 1), sink));  // its end says that the engine knows of the replica
  sink->Wait();
  const auto refused = std::make_shared<RecordingSink>();
  const absl::Status status = Submit(MakeRequest("b", std::vector<int32_t>(121, 1), 5), refused);
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("leaves room for at most 120")));
  backend_.Stop();
}

TEST_F(EngineTest, DestructionEndsWhatIsLeft) {
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_OK(Submit(MakeRequest("a", {1}, 5), sink));
  engine_.reset();
  EXPECT_EQ(sink->done()->reason, FinishReason::kError);
  EXPECT_THAT(sink->done()->error, StatusIs(absl::StatusCode::kUnavailable, "the engine stopped"));
}

TEST_F(EngineTest, AnIdleEngineSleeps) {
  backend_.Up(engine_->Events(0));
  const auto sink = std::make_shared<RecordingSink>();
  ASSERT_OK(Submit(MakeRequest("a", {1}, 5), sink));  // waits for an answer that does not come
  const auto cpu = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_sec * 1000000 +
           usage.ru_stime.tv_usec;
  };
  const auto before = cpu();
  engine_->Drain(std::chrono::milliseconds(300));  // the wait itself is what is measured
  EXPECT_LT(cpu() - before, 100000);
}

TEST(EngineStressTest, ManyThreadsKillsAndCancels) {
  SteadyClock clock;
  FakeBackend backend(kCapacity);
  auto engine = Engine::Create({.max_step_tokens = 16, .feature_cache_bytes = 4 * 7}, {&backend}, &clock);
  backend.Up(engine->Events(0));
  backend.Start(engine->Events(0), 3);
  constexpr int kClients = 4;
  constexpr int kRequests = 60;
  std::atomic<int> finished = 0;
  std::vector<std::thread> clients;
  for (int c = 0; c < kClients; ++c) {
    clients.emplace_back([&, c] {
      std::mt19937_64 random(static_cast<uint64_t>(c));
      for (int i = 0; i < kRequests; ++i) {
        const std::string id = std::to_string(c) + "." + std::to_string(i);
        const EngineRequest request = RandomRequest(&random, id, 40);
        const auto sink = std::make_shared<RecordingSink>();
        ASSERT_OK(engine->Submit(request, sink));
        const bool cancel = random() % 8 == 0;
        if (cancel) engine->Cancel(id);
        const Completion completion = sink->Wait();
        std::vector<int32_t> expected = ToyReference(request, kMaxLength).tokens;
        if (completion.reason == FinishReason::kCancelled) {
          EXPECT_TRUE(cancel);
          expected.resize(std::min(expected.size(), sink->tokens().size()));
        }
        EXPECT_EQ(sink->tokens(), expected) << id;
        engine->Stats();
        ++finished;
      }
    });
  }
  // A kill after every twenty or so requests: paced by their ends, not by time.
  for (int next = 20; next < kClients * kRequests; next += 20) {
    while (finished < next) std::this_thread::yield();
    backend.Kill(engine->Events(0), /*late=*/true);
    backend.Up(engine->Events(0));
  }
  for (std::thread& client : clients) client.join();
  engine->Drain(std::chrono::minutes(1));
  backend.Stop();
  EXPECT_THAT(backend.violations(), IsEmpty());
  EXPECT_EQ(engine->Stats().running + engine->Stats().waiting, 0);
}

}  // namespace
}  // namespace fulger
