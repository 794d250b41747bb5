#include "coordinator/scheduler/step_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "coordinator/scheduler/planner_test_util.h"

namespace fulger {
namespace {

TEST(StepPlannerTest, ThreeSequencesBudgetEight) {
  StepPlanner planner(SmallConfig());
  const auto a = MakeSequence(1, 3, 2);
  const auto b = MakeSequence(2, 7, 9);
  const auto c = MakeSequence(3, 1, 9);
  for (Sequence* s : {a.get(), b.get()}) planner.Add(s);

  // a whole, the first five of b.
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 1
    operations { kind: ZERO_SLOT to: 0 }
    operations { kind: ZERO_SLOT to: 1 }
    new_sequences {
      sequence: 1
      slot: 0
      ids: [ 10, 11, 12 ]
      prompt_count: 3
      sampling { seed: 1 max_tokens: 2 }
    }
    new_sequences {
      sequence: 2
      slot: 1
      ids: [ 20, 21, 22, 23, 24, 25, 26 ]
      prompt_count: 7
      sampling { seed: 2 max_tokens: 9 }
    }
    blocks { sequence: 1 blocks: 0 }
    blocks {
      sequence: 2
      blocks: [ 1, 2 ]
    }
    rows { sequence: 1 position: 0 count: 3 sample: true }
    rows { sequence: 2 position: 0 count: 5 })pb");
  planner.Add(c.get());
  // a decodes the token of step 1, which nobody here knows yet; b ends its prompt; c comes in.
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 2
    operations { kind: ZERO_SLOT to: 2 }
    new_sequences {
      sequence: 3
      slot: 2
      ids: 30
      prompt_count: 1
      sampling { seed: 3 max_tokens: 9 }
    }
    blocks { sequence: 3 blocks: 3 }
    rows { sequence: 1 position: 3 count: 1 result_of_step: 1 sample: true }
    rows { sequence: 2 position: 5 count: 2 sample: true }
    rows { sequence: 3 position: 0 count: 1 sample: true })pb");
  EXPECT_EQ(planner.Next(), nullptr);  // two in flight
  Answer(&planner, 1, 100);
  // a has both its tokens planned: 3 + 2 ids, the last of which is never run.
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 3
    rows { sequence: 2 position: 7 count: 1 result_of_step: 2 sample: true }
    rows { sequence: 3 position: 1 count: 1 result_of_step: 2 sample: true })pb");
  Answer(&planner, 2, 101);
  planner.Remove(a.get());
  EXPECT_EQ(planner.blocks().free(), 10 - 3);  // b holds 2, c 1
  EXPECT_EQ(planner.slots().free(), 2);
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 4
    blocks { sequence: 2 blocks: 0 }
    rows { sequence: 2 position: 8 count: 1 result_of_step: 3 sample: true }
    rows { sequence: 3 position: 2 count: 1 result_of_step: 3 sample: true }
    retired: 1)pb");
}

TEST(StepPlannerTest, WhatStepsInFlightNameIsNotGivenOut) {
  PlannerConfig config = SmallConfig();
  config.slots = 1;
  StepPlanner planner(config);
  const auto a = MakeSequence(1, 3, 20);
  const auto b = MakeSequence(2, 3, 20);
  planner.Add(a.get());
  planner.Add(b.get());
  ASSERT_NE(planner.Next(), nullptr);
  ASSERT_NE(planner.Next(), nullptr);
  planner.Remove(a.get());  // cancelled while steps 1 and 2 run it
  Answer(&planner, 1, 5);
  EXPECT_EQ(planner.slots().releasing(), 1);
  EXPECT_EQ(planner.Next(), nullptr);
  Answer(&planner, 2, 5);
  EXPECT_EQ(a->ids.size(), 3u);
  const auto plan = planner.Next();
  ASSERT_NE(plan, nullptr);
  EXPECT_THAT(plan->retired(), testing::ElementsAre(1));
  EXPECT_EQ(plan->new_sequences(0).sequence(), 2u);
  EXPECT_EQ(plan->new_sequences(0).slot(), 0);
}

TEST(StepPlannerTest, APreemptedSequenceComesBackWithAllItsTokens) {
  PlannerConfig config = SmallConfig();
  config.blocks = 3;
  StepPlanner planner(config);
  const auto a = MakeSequence(1, 3, 8);
  const auto b = MakeSequence(2, 4, 5);
  planner.Add(a.get());
  planner.Add(b.get());
  ASSERT_NE(planner.Next(), nullptr);  // 1: both prompts, 1 + 1 blocks
  ASSERT_NE(planner.Next(), nullptr);  // 2: a at 3, b at 4 takes the third block
  Answer(&planner, 1, 50);
  EXPECT_EQ(planner.Next(), nullptr);  // a at 4 needs a block: b gives its two when step 2 has answered
  EXPECT_EQ(planner.preemptions(), 1u);
  EXPECT_EQ(planner.waiting(), 1);
  Answer(&planner, 2, 51);
  EXPECT_THAT(b->ids, testing::ElementsAre(20, 21, 22, 23, 50, 51));  // no token in flight is lost
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 3
    blocks { sequence: 1 blocks: 2 }
    rows { sequence: 1 position: 4 count: 1 result_of_step: 2 sample: true }
    retired: 2)pb");
  planner.Remove(a.get());
  Answer(&planner, 3, 52);
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 4
    operations { kind: ZERO_SLOT to: 0 }
    new_sequences {
      sequence: 3
      slot: 0
      ids: [ 20, 21, 22, 23, 50, 51 ]
      prompt_count: 4
      sampling { seed: 2 max_tokens: 5 }
    }
    blocks {
      sequence: 3
      blocks: [ 2, 0 ]
    }
    rows { sequence: 3 position: 0 count: 6 sample: true }
    retired: 1)pb");
}

TEST(StepPlannerTest, PicturesAreNamedForExactlyTheRowsThatRun) {
  StepPlanner planner(SmallConfig());
  const auto a = MakeSequence(1, 14, 5);
  a->images = {{.key = "cat", .position = 2, .rows = 4}, {.key = "dog", .position = 7, .rows = 5}};
  planner.Add(a.get());
  const auto changes = planner.UpdateFeatures();
  ASSERT_EQ(changes.encode.size(), 2u);
  EXPECT_EQ(changes.encode[1].image, 1u);
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 1
    operations { kind: ZERO_SLOT to: 0 }
    new_sequences {
      sequence: 1
      slot: 0
      ids: [ 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23 ]
      prompt_count: 14
      sampling { seed: 1 max_tokens: 5 }
    }
    blocks { sequence: 1 blocks: 0 }
    rows { sequence: 1 position: 0 count: 2 })pb");
  EXPECT_EQ(planner.Next(), nullptr);
  planner.features().Encoded("cat");
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 2
    blocks { sequence: 1 blocks: 1 }
    rows { sequence: 1 position: 2 count: 5 }
    features { key: "cat" first: 0 count: 4 sequence: 1 position: 2 })pb");
  planner.features().Encoded("dog");
  Answer(&planner, 1, 0);
  Answer(&planner, 2, 0);
  ExpectPlan(planner.Next(), R"pb(
    replica: "r"
    epoch: 3
    step: 3
    blocks {
      sequence: 1
      blocks: [ 2, 3 ]
    }
    rows { sequence: 1 position: 7 count: 7 sample: true }
    features { key: "dog" first: 0 count: 5 sequence: 1 position: 7 })pb");
}

TEST(StepPlannerTest, AChunkThatCutsAPictureNamesItsPart) {
  PlannerConfig config = SmallConfig();
  config.step_tokens = 4;
  StepPlanner planner(config);
  const auto a = MakeSequence(1, 9, 5);
  a->images = {{.key = "cat", .position = 2, .rows = 4}};
  planner.Add(a.get());
  planner.UpdateFeatures();
  planner.features().Encoded("cat");
  const auto first = planner.Next();
  const auto second = planner.Next();
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(first->features(0).ShortDebugString(), R"(key: "cat" count: 2 sequence: 1 position: 2)");
  EXPECT_EQ(second->features(0).ShortDebugString(),
            R"(key: "cat" first: 2 count: 2 sequence: 1 position: 4)");
}

TEST(StepPlannerTest, FourStagesFourGroups) {
  PlannerConfig config = SmallConfig();
  config.stages = 4;
  config.blocks = 100;
  config.slots = 8;
  config.max_running = 8;
  StepPlanner planner(config);
  std::vector<std::unique_ptr<Sequence>> sequences;
  for (uint64_t i = 1; i <= 8; ++i) {
    sequences.push_back(MakeSequence(i, 1, 30));
    planner.Add(sequences.back().get());
  }
  std::vector<std::vector<std::pair<uint64_t, uint64_t>>> steps;  // (sequence, result_of_step)
  for (uint64_t step = 1; step <= 9; ++step) {
    const auto plan = planner.Next();
    ASSERT_NE(plan, nullptr) << "step " << step;
    steps.emplace_back();
    for (const auto& row : plan->rows()) steps.back().emplace_back(row.sequence(), row.result_of_step());
    if (step >= 5) Answer(&planner, step - 4, 7);  // five are in flight
  }
  using testing::ElementsAre;
  using testing::Pair;
  EXPECT_EQ(steps[0].size(), 8u);  // all prompts
  EXPECT_THAT(steps[1], ElementsAre(Pair(1, 1), Pair(2, 1)));
  EXPECT_THAT(steps[2], ElementsAre(Pair(3, 1), Pair(4, 1)));
  EXPECT_THAT(steps[3], ElementsAre(Pair(5, 1), Pair(6, 1)));
  EXPECT_THAT(steps[4], ElementsAre(Pair(7, 1), Pair(8, 1)));
  EXPECT_THAT(steps[5], ElementsAre(Pair(1, 2), Pair(2, 2)));
  EXPECT_THAT(steps[8], ElementsAre(Pair(7, 5), Pair(8, 5)));
}

TEST(StepPlannerTest, AnswersComeInOrder) {
  StepPlanner planner(SmallConfig());
  const auto a = MakeSequence(1, 3, 20);
  planner.Add(a.get());
  planner.Next();
  planner.Next();
  EXPECT_EQ(planner.Answered(2), std::nullopt);
  EXPECT_EQ(planner.Answered(7), std::nullopt);
  EXPECT_TRUE(planner.Answered(1).has_value());
  EXPECT_EQ(planner.Answered(1), std::nullopt);
}

}  // namespace
}  // namespace fulger
