// Requests that stop in one process and go on in another: from what the ranks saved where that is there, from
// their tokens otherwise, and always to the same answer.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
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

using testing::IsEmpty;
using testing::SizeIs;

ReplicaCapacity Capacity(int64_t stages) {
  return {.blocks = 40, .block_size = 4, .slots = 8, .max_step_tokens = 16, .stages = stages};
}

// An engine without a thread, with a replica of its own.
struct Process {
  explicit Process(int64_t stages = 1, int64_t anchors = 0)
      : config{.max_running_requests = 4,
               .anchors = anchors,
               .anchor_rules = {.interval = 8, .min_gap = 4},
               .max_step_tokens = 8,
               .max_context = 100,
               .feature_cache_bytes = 400},
        backend(Capacity(stages)) {}
  ~Process() { EXPECT_THAT(backend.violations(), IsEmpty()); }

  std::shared_ptr<RecordingSink> Submit(EngineRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    core.Submit(std::move(request), sink);
    core.Pump();
    return sink;
  }
  bool Step() { return backend.AnswerPicture(&events) || backend.AnswerStep(&events); }
  void Suspend() {
    core.Suspend("folder", std::chrono::seconds(10),
                 [this](std::vector<v1::SavedRequest> requests) { saved = std::move(requests); });
    core.Pump();
  }
  void RunToEnd() {
    while (Step() || backend.AnswerState(&events)) {
    }
  }
  // Position of the first row of every sequence, by request.
  std::map<std::string, int64_t> FirstRows() const {
    std::map<uint64_t, std::string> names;
    std::map<std::string, int64_t> first;
    for (const auto& plan : backend.plans()) {
      for (const auto& announced : plan->new_sequences()) names[announced.sequence()] = announced.request();
      for (const auto& row : plan->rows()) first.emplace(names.at(row.sequence()), row.position());
    }
    return first;
  }

  const EngineConfig config;
  ManualClock clock;
  FakeBackend backend;
  EngineCore core{config, {&backend}, &clock, nullptr, [](const std::string&) {}};
  CoreEvents events{&core};
  std::optional<std::vector<v1::SavedRequest>> saved;
};

EngineRequest WithIdentity(EngineRequest request) {
  request.identity = request.id;
  return request;
}

// As what reads the manifest gives it out.
EngineRequest Resumed(EngineRequest request, const v1::SavedRequest& saved, uint64_t number) {
  v1::SavedRequest copy = saved;
  if (copy.has_state()) copy.mutable_state()->set_id(number);
  request.saved = std::make_shared<const v1::SavedRequest>(std::move(copy));
  return request;
}

const v1::SavedRequest* Find(const std::vector<v1::SavedRequest>& all, const std::string& identity) {
  const auto found = std::ranges::find(all, identity, &v1::SavedRequest::identity);
  return found == all.end() ? nullptr : &*found;
}

TEST(EngineSuspendTest, AtAnyStepTheRestIsTheSame) {
  int states = 0;
  for (uint64_t seed = 0; seed < 120; ++seed) {
    SCOPED_TRACE(seed);
    std::mt19937_64 random(seed);
    const int64_t stages = seed % 3 == 0 ? 3 : 1, anchors = seed % 2 == 0 ? 3 : 0;
    std::vector<EngineRequest> requests;
    for (int i = 0; i < 5; ++i) {
      requests.push_back(WithIdentity(RandomRequest(&random, "r" + std::to_string(i), 30)));
    }
    Process first(stages, anchors);
    first.backend.Up(&first.events);
    std::map<std::string, std::shared_ptr<RecordingSink>> sinks;
    for (const EngineRequest& request : requests) sinks[request.id] = first.Submit(request);
    for (uint64_t i = random() % 40; i > 0 && first.Step(); --i) {
    }
    first.Suspend();
    first.RunToEnd();
    ASSERT_TRUE(first.saved.has_value());

    Process second(stages, anchors);
    second.backend.Up(&second.events);
    uint64_t number = 0;
    std::map<std::string, int64_t> positions;
    std::vector<std::pair<EngineRequest, std::shared_ptr<RecordingSink>>> resumed;
    for (const EngineRequest& request : requests) {
      const auto before = sinks[request.id]->tokens();
      const v1::SavedRequest* saved = Find(*first.saved, request.identity);
      if (sinks[request.id]->done().has_value()) {
        EXPECT_EQ(saved, nullptr) << "it had ended";
        EXPECT_EQ(before, ToyReference(request, 100).tokens);
        continue;
      }
      if (saved == nullptr) {
        EXPECT_THAT(before, IsEmpty()) << "tokens are never lost";
        resumed.emplace_back(request, second.Submit(request));
        continue;
      }
      ASSERT_EQ(saved->tokens_size(), std::ssize(before));
      for (size_t t = 0; t < before.size(); ++t)
        EXPECT_EQ(saved->tokens(static_cast<int>(t)).id(), before[t]);
      if (saved->has_state()) positions[request.id] = saved->state().position();
      resumed.emplace_back(request, second.Submit(Resumed(request, *saved, ++number)));
      EXPECT_EQ(resumed.back().second->tokens(), before) << "at once";
    }
    second.RunToEnd();
    for (const auto& [request, sink] : resumed) {
      ASSERT_TRUE(sink->done().has_value()) << request.id;
      EXPECT_EQ(sink->tokens(), ToyReference(request, 100).tokens) << request.id;
      EXPECT_EQ(sink->done()->completion_tokens, std::ssize(sink->tokens()));
    }
    const auto rows = second.FirstRows();
    for (const auto& [id, position] : positions) {
      EXPECT_EQ(rows.at(id), position) << id;
      ++states;
    }
    EXPECT_EQ(second.backend.fetched(), 0u);
    EXPECT_EQ(second.core.Stats().blocks_used + second.core.Stats().slots_used, 0);
  }
  EXPECT_GT(states, 150);
}

class SuspendedTest : public testing::Test {
 protected:
  // Two requests that run, with a picture in the first's prompt, and their saved parts. `error`: of saving.
  void Save(const std::string& error = {}) {
    first_.backend.Up(&first_.events);
    a_ = WithIdentity(MakeRequest("a", {1, 2, 3, 4, 5, 6, 7}, 20));
    a_.images.push_back({.position = 1, .image = MakeImage("3-cat", 3)});
    b_ = WithIdentity(MakeRequest("b", {8, 9}, 20));
    const auto a = first_.Submit(a_), b = first_.Submit(b_);
    while (a->tokens().size() < 5 || b->tokens().size() < 5) ASSERT_TRUE(first_.Step());
    first_.Suspend();
    while (first_.backend.AnswerStep(&first_.events)) {
    }
    EXPECT_FALSE(first_.saved.has_value()) << "before the ranks have answered";
    ASSERT_TRUE(first_.backend.AnswerState(&first_.events, error));
    ASSERT_TRUE(first_.saved.has_value());
    ASSERT_THAT(*first_.saved, SizeIs(2));
  }
  std::shared_ptr<RecordingSink> Resume(Process* process, const EngineRequest& request, uint64_t number) {
    return process->Submit(Resumed(request, *Find(*first_.saved, request.identity), number));
  }

  Process first_;
  EngineRequest a_, b_;
};

TEST_F(SuspendedTest, WhatLacksOnARankIsComputedAgain) {
  Save("rank 1: no space left on device");
  EXPECT_TRUE(Find(*first_.saved, "a")->has_state());
  EXPECT_EQ(Find(*first_.saved, "a")->state().pieces_size(), 2);
  EXPECT_FALSE(Find(*first_.saved, "b")->has_state()) << "the shorter one comes last";
  Process second;
  second.backend.Up(&second.events);
  const auto a = Resume(&second, a_, 1), b = Resume(&second, b_, 2);
  second.RunToEnd();
  EXPECT_EQ(a->tokens(), ToyReference(a_, 100).tokens);
  EXPECT_EQ(b->tokens(), ToyReference(b_, 100).tokens);
  EXPECT_EQ(second.backend.encoded(), 0) << "the picture is in the state";
}

TEST_F(SuspendedTest, AStateThatCannotBeReadIsComputedAgain) {
  Save();
  Process second;
  second.backend.Up(&second.events);
  const auto a = Resume(&second, a_, 1), b = Resume(&second, b_, 2);
  EXPECT_TRUE(second.backend.AnswerState(&second.events, "damaged"));
  second.RunToEnd();
  EXPECT_EQ(a->tokens(), ToyReference(a_, 100).tokens);
  EXPECT_EQ(b->tokens(), ToyReference(b_, 100).tokens);
  EXPECT_EQ(second.FirstRows().at("a"), 0);
  EXPECT_GT(second.FirstRows().at("b"), 0);
  EXPECT_EQ(second.backend.encoded(), 1);
}

TEST_F(SuspendedTest, AReplicaThatDiesFirstReadsAnew) {
  Save();
  Process second;
  second.backend.Up(&second.events);
  const auto a = Resume(&second, a_, 1);
  second.backend.Kill(&second.events);
  second.backend.Up(&second.events);
  second.RunToEnd();
  EXPECT_EQ(a->tokens(), ToyReference(a_, 100).tokens);
  EXPECT_GT(second.FirstRows().at("a"), 0);
}

TEST_F(SuspendedTest, AClientThatLeavesFreesWhatWasRead) {
  Save();
  Process second;
  second.backend.Up(&second.events);
  const auto a = Resume(&second, a_, 1);
  ASSERT_TRUE(second.backend.AnswerState(&second.events));  // planned at once
  second.core.Cancel("a");
  second.core.Pump();
  const auto b = Resume(&second, b_, 2);
  second.core.Cancel("b");
  second.RunToEnd();
  EXPECT_EQ(second.backend.fetched(), 1u) << "its answer came after all";
  second.Submit(MakeRequest("c", {1}, 1));
  second.RunToEnd();
  EXPECT_EQ(second.backend.fetched(), 0u);
  EXPECT_EQ(second.core.Stats().blocks_used + second.core.Stats().slots_used, 0);
}

TEST_F(SuspendedTest, SavedASecondTime) {
  Save();
  Process second;
  second.backend.Up(&second.events);
  const auto a = Resume(&second, a_, 1), b = Resume(&second, b_, 2);
  while (a->tokens().size() < 12) ASSERT_TRUE(second.backend.AnswerState(&second.events) || second.Step());
  second.Suspend();
  second.RunToEnd();
  ASSERT_TRUE(second.saved.has_value());
  const v1::SavedRequest* again = Find(*second.saved, "a");
  ASSERT_NE(again, nullptr);
  EXPECT_TRUE(again->has_state());
  EXPECT_GE(again->tokens_size(), 12);
  Process third;
  third.backend.Up(&third.events);
  const auto last = third.Submit(Resumed(a_, *again, 1));
  third.RunToEnd();
  EXPECT_EQ(last->tokens(), ToyReference(a_, 100).tokens);
}

TEST_F(SuspendedTest, AStopStringAmongSavedTokensEndsIt) {
  Save();
  Process second;
  second.backend.Up(&second.events);
  EngineRequest stops = Resumed(a_, *Find(*first_.saved, "a"), 1);
  auto sink = std::make_shared<RecordingSink>(/*stop_at=*/3);
  second.core.Submit(std::move(stops), sink);
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_EQ(sink->done()->reason, FinishReason::kStopString);
  EXPECT_THAT(sink->tokens(), SizeIs(3));
}

TEST(EngineSuspendTest, WithoutARankOrInTimeThereAreTheTokens) {
  for (const bool dies : {true, false}) {
    Process first;
    first.backend.Up(&first.events);
    const EngineRequest request = WithIdentity(MakeRequest("a", {1, 2, 3}, 20));
    const auto sink = first.Submit(request);
    while (sink->tokens().size() < 5) ASSERT_TRUE(first.Step());
    first.Submit(MakeRequest("nobody", {1, 2}, 20));
    first.Suspend();
    if (dies) {
      first.backend.Kill(&first.events);
    } else {
      first.core.EndSuspend();
    }
    ASSERT_TRUE(first.saved.has_value());
    ASSERT_THAT(*first.saved, SizeIs(1)) << "one without an identity is not saved";
    EXPECT_FALSE(first.saved->front().has_state());
    EXPECT_EQ(first.saved->front().tokens_size(), std::ssize(sink->tokens()));
    first.RunToEnd();  // too late, and no harm
  }
}

// Even tokens at even places, and so on: made apart from the engine's thread.
class Parity final : public TokenConstraint {
 public:
  absl::StatusOr<std::shared_ptr<const TokenMask>> Advance(int32_t id) override {
    if (id % 2 != count_ % 2) return Internal("token {} at place {}", id, count_);
    ++count_;
    return Mask();
  }
  std::shared_ptr<const TokenMask> Mask() const {
    TokenMask mask{.id = static_cast<uint64_t>(1 + count_ % 2), .bits = std::string(8, '\0')};
    for (int32_t id = count_ % 2; id < kToyVocabulary; id += 2) {
      mask.bits[static_cast<size_t>(id / 8)] |= static_cast<char>(1 << id % 8);
    }
    return std::make_shared<TokenMask>(std::move(mask));
  }

 private:
  int32_t count_ = 0;
};

EngineRequest Constrained() {
  EngineRequest request = WithIdentity(MakeRequest("a", {1, 2, 3}, 20));
  auto parity = std::make_shared<Parity>();
  request.first_mask = parity->Mask();
  request.constraint = std::move(parity);
  return request;
}

TEST(EngineSuspendTest, AnAnswerThatFollowsAGrammarGoesOnInIt) {
  Process whole;
  whole.backend.Up(&whole.events);
  const auto expected = whole.Submit(Constrained());
  whole.RunToEnd();
  ASSERT_THAT(expected->tokens(), SizeIs(20));
  for (size_t tokens = 0; tokens < 20; ++tokens) {
    Process first;
    first.backend.Up(&first.events);
    const auto sink = first.Submit(Constrained());
    while (sink->tokens().size() < tokens) ASSERT_TRUE(first.Step());
    first.Suspend();
    first.RunToEnd();
    ASSERT_TRUE(first.saved.has_value());
    if (first.saved->empty()) {
      EXPECT_EQ(sink->tokens(), expected->tokens()) << "the last token was under way";
      continue;
    }
    Process second;
    second.backend.Up(&second.events);
    const auto resumed = second.Submit(Resumed(Constrained(), first.saved->front(), 1));
    second.RunToEnd();
    EXPECT_EQ(resumed->tokens(), expected->tokens()) << tokens;
  }
}

TEST(EngineSuspendTest, TheEngineSettlesThenSuspends) {
  SteadyClock clock;
  FakeBackend backend(Capacity(1));
  const auto engine = Engine::Create({.max_step_tokens = 8, .max_context = 100}, {&backend}, &clock);
  backend.Up(engine->Events(0));
  const auto sink = std::make_shared<RecordingSink>();
  const EngineRequest request = WithIdentity(MakeRequest("a", {1, 2, 3}, 50));
  ASSERT_OK(engine->Submit(request, sink));
  while (sink->tokens().size() < 5) backend.AnswerStep(engine->Events(0));
  EXPECT_FALSE(engine->Settle(Duration(0)));
  EXPECT_FALSE(sink->done().has_value());
  EXPECT_EQ(engine->Submit(WithIdentity(MakeRequest("b", {1}, 1)), sink).code(),
            absl::StatusCode::kUnavailable);
  backend.Start(engine->Events(0), 1);
  const auto saved = engine->Suspend("folder", std::chrono::minutes(1));
  ASSERT_THAT(saved, SizeIs(1));
  EXPECT_TRUE(saved[0].has_state());
  ASSERT_TRUE(sink->done().has_value());
  EXPECT_THAT(sink->done()->error, StatusIs(absl::StatusCode::kUnavailable, testing::HasSubstr("was saved")));
  EXPECT_TRUE(engine->Settle(Duration(0)));
  EXPECT_THAT(backend.violations(), IsEmpty());
  backend.Stop();
}

}  // namespace
}  // namespace fulger
