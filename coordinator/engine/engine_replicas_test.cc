// Several replicas behind one engine: who gets what, and what happens when one dies.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_test_util.h"
#include "coordinator/engine/fake_backend.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::IsEmpty;

constexpr ReplicaCapacity kCapacity = {
    .blocks = 60, .block_size = 4, .slots = 8, .max_step_tokens = 16, .stages = 1};

class EngineReplicasTest : public testing::Test {
 protected:
  ~EngineReplicasTest() override {
    EXPECT_THAT(first_.violations(), IsEmpty());
    EXPECT_THAT(second_.violations(), IsEmpty());
  }
  std::shared_ptr<RecordingSink> Submit(EngineRequest request) {
    auto sink = std::make_shared<RecordingSink>();
    core_.Submit(std::move(request), sink);
    core_.Pump();
    return sink;
  }
  void RunToEnd() {
    while (first_.AnswerStep(&first_events_) || second_.AnswerStep(&second_events_)) {
    }
  }
  int64_t Requests(size_t replica) const {
    const ReplicaStats stats = core_.Stats().replicas[replica];
    return stats.running + stats.waiting;
  }

  ManualClock clock_;
  FakeBackend first_{kCapacity}, second_{kCapacity};
  EngineCore core_{{.anchors = 4, .anchor_rules = {.interval = 0, .min_gap = 1}, .max_context = 200},
                   {&first_, &second_},
                   &clock_,
                   nullptr,
                   [](const std::string&) {}};
  CoreEvents first_events_{&core_, 0}, second_events_{&core_, 1};
};

TEST_F(EngineReplicasTest, RequestsAreSpreadAndPrefixesComeBack) {
  first_.Up(&first_events_);
  second_.Up(&second_events_);
  EngineRequest document = MakeRequest("a", std::vector<int32_t>(100, 7), 4);
  document.borders = {90};
  const auto a = Submit(document);
  Submit(MakeRequest("b", {1, 2, 3}, 4));
  EXPECT_EQ(Requests(0), 1);
  EXPECT_EQ(Requests(1), 1);
  RunToEnd();
  document.id = "c";
  const auto c = Submit(document);
  EXPECT_EQ(Requests(0), 1);  // where its prefix is
  RunToEnd();
  EXPECT_EQ(c->done()->cached_tokens, 90);
  EXPECT_EQ(c->tokens(), a->tokens());
}

TEST_F(EngineReplicasTest, WhatWaitsIsDealtOutWhenAnotherComesUp) {
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<EngineRequest> requests;
  for (int i = 0; i < 10; ++i) requests.push_back(MakeRequest("r" + std::to_string(i), {i, 2, 3}, 10));
  for (const EngineRequest& request : requests) sinks.push_back(Submit(request));
  EXPECT_EQ(core_.Stats().waiting, 10);
  EXPECT_FALSE(core_.Stats().ready);
  first_.Up(&first_events_);  // four places: eight slots less four anchors
  EXPECT_EQ(Requests(0), 10);
  second_.Up(&second_events_);
  EXPECT_EQ(Requests(0), 5);
  EXPECT_EQ(Requests(1), 5);
  RunToEnd();
  for (size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_EQ(sinks[i]->tokens(), ToyReference(requests[i], 200).tokens);
  }
}

TEST_F(EngineReplicasTest, TheOtherGoesOnWithTheRequestsOfADeadOne) {
  first_.Up(&first_events_);
  second_.Up(&second_events_);
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  std::vector<EngineRequest> requests;
  for (int i = 0; i < 4; ++i) requests.push_back(MakeRequest("r" + std::to_string(i), {i, 2, 3}, 20));
  for (const EngineRequest& request : requests) sinks.push_back(Submit(request));
  for (int i = 0; i < 6; ++i) {
    first_.AnswerStep(&first_events_);
    second_.AnswerStep(&second_events_);
  }
  first_.Kill(&first_events_);
  EXPECT_TRUE(core_.Stats().ready);
  EXPECT_FALSE(core_.Stats().replicas[0].ready);
  EXPECT_EQ(Requests(1), 4);
  RunToEnd();
  for (size_t i = 0; i < sinks.size(); ++i) {
    EXPECT_EQ(sinks[i]->tokens(), ToyReference(requests[i], 200).tokens);  // none lost, none repeated
  }
}

TEST_F(EngineReplicasTest, RandomKillsLoseAndRepeatNothing) {
  std::mt19937_64 random(5);
  first_.Up(&first_events_);
  second_.Up(&second_events_);
  std::vector<std::pair<EngineRequest, std::shared_ptr<RecordingSink>>> all;
  const auto chance = [&](uint64_t one_in) { return random() % one_in == 0; };
  const auto live = [&] {
    return std::ranges::count_if(all, [](const auto& r) { return !r.second->done().has_value(); });
  };
  for (int submitted = 0; submitted < 400 || live() > 0;) {
    if (submitted < 400 && live() < 12 && chance(3)) {
      EngineRequest request = RandomRequest(&random, std::to_string(submitted++), 60);
      if (!all.empty() && chance(2)) {
        request.prompt = all[random() % all.size()].first.prompt;
        request.images.clear();
        request.prompt.push_back(static_cast<int32_t>(random() % 50));
      }
      request.borders = {static_cast<int64_t>(request.prompt.size()) - 1};
      all.emplace_back(request, Submit(request));
    }
    for (auto& [backend, events] :
         {std::pair(&first_, &first_events_), std::pair(&second_, &second_events_)}) {
      if (chance(150)) {
        backend->Kill(events, /*late=*/chance(2));
        backend->Up(events);
      }
      if (chance(3)) backend->AnswerPicture(events);
      if (chance(2)) backend->AnswerStep(events);
    }
  }
  RunToEnd();
  for (const auto& [request, sink] : all) {
    const ToyAnswer reference = ToyReference(request, 200);
    EXPECT_EQ(sink->tokens(), reference.tokens) << request.id;
    EXPECT_EQ(sink->done()->reason, reference.reason);
  }
  EXPECT_GT(core_.Stats().anchor_hits, 3u);
}

}  // namespace
}  // namespace fulger
