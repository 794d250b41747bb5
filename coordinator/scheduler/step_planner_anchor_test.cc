// Anchors in plans: where they are saved, what a hit runs, what a preempted sequence keeps.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "coordinator/scheduler/planner_test_util.h"
#include "coordinator/scheduler/step_planner.h"

namespace fulger {
namespace {

// Blocks of four; two sequences and two anchors.
PlannerConfig AnchorConfig() {
  PlannerConfig config = SmallConfig();
  config.step_tokens = 16;
  config.max_running = 2;
  config.anchors = {.anchors = 2};
  return config;
}

std::unique_ptr<Sequence> WithIds(uint64_t order, std::vector<int32_t> ids, int64_t max_tokens,
                                  std::vector<int64_t> anchors = {}) {
  auto s = MakeSequence(order, static_cast<int64_t>(ids.size()), max_tokens);
  s->ids = std::move(ids);
  for (const int64_t position : anchors) s->anchors.push_back({.position = position});
  return s;
}

// Runs what there is until nothing moves; every step brings `token`.
void RunAll(StepPlanner* planner, uint64_t* answered, int32_t token, int steps) {
  for (int i = 0; i < steps; ++i) {
    planner->Next();
    Answer(planner, ++*answered, token);
  }
}

TEST(StepPlannerAnchorTest, IsSavedByTheStepAfterAndContinuedFromWithACopyOfItsLastBlock) {
  StepPlanner planner(AnchorConfig());
  const auto a = WithIds(1, {1, 2, 3, 4, 5, 6, 7, 8}, 9, /*anchors=*/{6});
  planner.Add(a.get());
  // The chunk ends where the anchor is.
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 1
    operations { kind: ZERO_SLOT to: 0 }
    new_sequences {
      sequence: 1
      slot: 0
      ids: [ 1, 2, 3, 4, 5, 6, 7, 8 ]
      prompt_count: 8
      sampling { seed: 1 max_tokens: 9 }
    }
    blocks {
      sequence: 1
      blocks: [ 0, 1 ]
    }
    rows { sequence: 1 position: 0 count: 6 })pb");
  // The same beginning: waits for the anchor that is being made.
  const auto b = WithIds(2, {1, 2, 3, 4, 5, 6, 9, 9, 9}, 9);
  planner.Add(b.get());
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 2
    operations { kind: COPY_SLOT from: 0 to: 1 }
    rows { sequence: 1 position: 6 count: 2 sample: true })pb");
  Answer(&planner, 1, 0);
  // a goes on in the block that it shares with the anchor; b has a copy of it.
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 3
    operations { kind: COPY_SLOT from: 1 to: 2 }
    operations { kind: COPY_BLOCK from: 1 to: 3 }
    new_sequences {
      sequence: 2
      slot: 2
      ids: [ 1, 2, 3, 4, 5, 6, 9, 9, 9 ]
      prompt_count: 9
      sampling { seed: 2 max_tokens: 9 }
    }
    blocks { sequence: 1 blocks: 2 }
    blocks { sequence: 2 blocks: 0 }
    blocks {
      sequence: 2
      blocks: [ 3, 4 ]
    }
    rows { sequence: 1 position: 8 count: 1 result_of_step: 2 sample: true }
    rows { sequence: 2 position: 6 count: 3 sample: true })pb");
  EXPECT_EQ(b->cache.cached, 6);
  EXPECT_EQ(b->cache.matched, 6);
  EXPECT_EQ(a->cache.cached, 0);
}

TEST(StepPlannerAnchorTest, TheEndOfATurnIsOneWithoutACopy) {
  StepPlanner planner(AnchorConfig());
  const auto a = WithIds(1, {1, 2, 3}, 20);
  planner.Add(a.get());
  uint64_t answered = 0;
  RunAll(&planner, &answered, 7, 3);
  EXPECT_THAT(a->ids, testing::ElementsAre(1, 2, 3, 7, 7, 7));
  planner.Next();  // the row that samples the stop id
  planner.Next();  // and a dead one
  Answer(&planner, ++answered, 7);
  a->ids.pop_back();  // the stop id
  planner.Remove(a.get(), /*intact=*/6);
  EXPECT_EQ(planner.anchors().size(), 1);
  Answer(&planner, ++answered, 7);
  EXPECT_EQ(planner.blocks().kept(), 2);
  EXPECT_EQ(planner.slots().owned(), 1);
  // The next turn begins with the last one and its answer.
  const auto b = WithIds(2, {1, 2, 3, 7, 7, 7, 5}, 20);
  planner.Add(b.get());
  const auto plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows(0).position(), 6);
  EXPECT_EQ(plan->rows(0).count(), 1);
  EXPECT_EQ(b->cache.cached, 6);
}

// The answer is cut by a stop string, whose rows in flight have run on: no anchor at its end.
TEST(StepPlannerAnchorTest, AnAnswerLeavesAnchorsWhileItGrows) {
  PlannerConfig config = AnchorConfig();
  config.answers = {.interval = 4, .min_gap = 2};
  StepPlanner planner(config);
  const auto a = WithIds(1, {1, 2, 3}, 20);
  planner.Add(a.get());
  uint64_t answered = 0;
  RunAll(&planner, &answered, 7, 5);  // past position 4, which is too near to the prompt
  EXPECT_EQ(planner.anchors().size(), 0);
  planner.Next();
  const auto copying = planner.Next();  // one row ahead of what has answered
  EXPECT_EQ(copying->rows(0).position(), 8);
  ASSERT_EQ(copying->operations_size(), 1);
  EXPECT_EQ(copying->operations(0).kind(), v1::Operation::COPY_SLOT);
  EXPECT_EQ(copying->operations(0).from(), 0);
  EXPECT_EQ(planner.anchors().size(), 0) << "nobody knows yet which token stands before it";
  Answer(&planner, ++answered, 7);
  planner.Next();
  EXPECT_EQ(planner.anchors().size(), 1);
  EXPECT_THAT(a->ids, testing::ElementsAre(1, 2, 3, 7, 7, 7, 7, 7, 7));
  planner.Remove(a.get());
  const auto b = WithIds(2, {1, 2, 3, 7, 7, 7, 7, 7, 5, 5}, 20);
  planner.Add(b.get());
  while (planner.in_flight() > 0) Answer(&planner, ++answered, 7);
  const auto plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows(0).position(), 8);
  EXPECT_EQ(b->cache.cached, 8);
}

// Its copy is there before anybody knows that the rows behind it were not sound.
TEST(StepPlannerAnchorTest, WhatFailsLeavesNoAnchor) {
  StepPlanner planner(AnchorConfig());
  const auto a = WithIds(1, {1, 2, 3, 4, 5, 6, 7, 8}, 9, /*anchors=*/{6});
  planner.Add(a.get());
  ASSERT_NE(planner.Next(), nullptr);
  const auto b = WithIds(2, {1, 2, 3, 4, 5, 6, 9, 9, 9}, 9);
  planner.Add(b.get());
  ASSERT_EQ(planner.Next()->operations_size(), 1);  // copies the state behind the first rows
  ASSERT_TRUE(planner.Answered(1).has_value());     // and they were an error
  planner.Remove(a.get(), 0, /*failed=*/true);
  const auto plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows(0).position(), 0) << "who waited for it runs all itself";
  EXPECT_EQ(b->cache.cached, 0);
  EXPECT_EQ(planner.anchors().size(), 0);
  ASSERT_TRUE(planner.Answered(2).has_value());
  EXPECT_EQ(planner.slots().owned(), 1) << "b's";
}

TEST(StepPlannerAnchorTest, OneTokenIsAlwaysRun) {
  StepPlanner planner(AnchorConfig());
  const auto a = WithIds(1, {1, 2, 3, 4}, 2);
  planner.Add(a.get());
  uint64_t answered = 0;
  RunAll(&planner, &answered, 7, 1);
  planner.Remove(a.get(), /*intact=*/4);  // the first token was a stop id
  const auto b = WithIds(2, {1, 2, 3, 4}, 2);
  planner.Add(b.get());
  const auto plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows(0).position(), 0);
  EXPECT_EQ(b->cache.matched, 4);
}

TEST(StepPlannerAnchorTest, WhoeverWantsNoneGetsAndLeavesNone) {
  StepPlanner planner(AnchorConfig());
  const auto a = WithIds(1, {1, 2, 3, 4, 5}, 9, {4});
  a->use_anchors = false;
  planner.Add(a.get());
  const auto plan = planner.Next();
  EXPECT_EQ(plan->rows(0).count(), 5);
  planner.Remove(a.get(), /*intact=*/5);
  EXPECT_EQ(planner.anchors().size(), 0);
}

TEST(StepPlannerAnchorTest, PicturesInsideAnAnchorAreNotEncodedAgain) {
  StepPlanner planner(AnchorConfig());
  const auto make = [](uint64_t order, const char* key) {
    auto s = WithIds(order, {1, 0, 0, 4, 5}, 9, {4});
    s->images = {{.key = key, .position = 1, .rows = 2}};
    return s;
  };
  const auto a = make(1, "cat");
  planner.Add(a.get());
  EXPECT_EQ(planner.UpdateFeatures().encode.size(), 1u);
  planner.features().Encoded("cat");
  ASSERT_NE(planner.Next(), nullptr);
  ASSERT_NE(planner.Next(), nullptr);
  Answer(&planner, 1, 7);
  Answer(&planner, 2, 7);
  planner.Remove(a.get());
  const auto b = make(2, "cat");
  planner.Add(b.get());
  const auto plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  EXPECT_EQ(plan->rows(0).position(), 4);
  EXPECT_EQ(plan->features_size(), 0);
  // The same placeholders for another picture are another content.
  const auto c = make(3, "dog");
  planner.Add(c.get());
  planner.Next();
  EXPECT_EQ(c->match.position, 0);
  EXPECT_EQ(planner.UpdateFeatures().encode.size(), 1u);
}

TEST(StepPlannerAnchorTest, ADisplacedSequenceContinuesFromItsSavedState) {
  PlannerConfig config = AnchorConfig();
  config.max_running = 1;
  StepPlanner planner(config);
  const auto patient = WithIds(1, {1, 2, 3}, 20);
  patient->priority = 1;
  planner.Add(patient.get());
  uint64_t answered = 0;
  RunAll(&planner, &answered, 7, 3);
  planner.Next();
  const auto urgent = WithIds(2, {5, 5}, 2);
  planner.Add(urgent.get());
  auto plan = planner.Next();  // the place is free at once: there is a slot
  ASSERT_NE(plan, nullptr);
  EXPECT_THAT(plan->retired(), testing::ElementsAre(1));
  EXPECT_EQ(plan->new_sequences(0).ids_size(), 2);
  Answer(&planner, ++answered, 7);  // brings the last token of the displaced one
  planner.Next();
  EXPECT_EQ(planner.anchors().size(), 1);
  Answer(&planner, ++answered, 7);
  planner.Remove(urgent.get());
  Answer(&planner, ++answered, 7);
  plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  // Six ids ran before; the seventh, known since, is all that is left to run.
  EXPECT_EQ(plan->new_sequences(0).ids_size(), 7);
  EXPECT_EQ(plan->rows(0).position(), 6);
  EXPECT_EQ(plan->rows(0).count(), 1);
  EXPECT_EQ(patient->cache.cached, 0);  // of the first admission
}

TEST(StepPlannerAnchorTest, AnchorsYieldToRunningSequencesAndAreMissedWithAReason) {
  PlannerConfig config = AnchorConfig();
  config.blocks = 4;
  StepPlanner planner(config);
  const auto a = WithIds(1, {1, 2, 3, 4, 5, 6, 7, 8}, 2);
  planner.Add(a.get());
  uint64_t answered = 0;
  RunAll(&planner, &answered, 7, 1);
  planner.Remove(a.get(), /*intact=*/8);
  EXPECT_EQ(planner.blocks().kept(), 2);
  const auto b = WithIds(2, {9, 9, 9, 9, 9, 9, 9, 9, 9}, 3);
  planner.Add(b.get());  // needs three
  ASSERT_NE(planner.Next(), nullptr);
  EXPECT_EQ(planner.anchors().size(), 0);
  EXPECT_EQ(planner.anchors().evictions(), 1u);
  planner.Remove(b.get());
  Answer(&planner, ++answered, 7);
  const auto c = WithIds(3, {1, 2, 3, 4, 5, 6, 7, 8, 4}, 2);
  planner.Add(c.get());
  ASSERT_NE(planner.Next(), nullptr);
  EXPECT_EQ(c->cache.cached, 0);
  EXPECT_EQ(c->cache.matched, 8);
  EXPECT_EQ(c->cache.lost, 8);
}

}  // namespace
}  // namespace fulger
