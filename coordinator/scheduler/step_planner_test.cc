#include "coordinator/scheduler/step_planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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

// A prompt of 100,000 tokens beside four that decode, and short ones that come meanwhile: no step is longer
// than the budget, everybody decodes at the pace of before, and who comes has a first token two steps after
// there is a place.
TEST(StepPlannerTest, AHugePromptDelaysNobodyByMoreThanTheBudget) {
  constexpr int64_t kHuge = 100'000, kBudget = 512, kDecoding = 4;
  for (const int64_t stages : {1, 4}) {
    SCOPED_TRACE(testing::Message() << stages << " stages");
    PlannerConfig config = SmallConfig();
    config.blocks = 40'000;
    config.slots = config.max_running = 8;
    config.step_tokens = kBudget;
    config.stages = stages;
    StepPlanner planner(config);
    std::vector<std::unique_ptr<Sequence>> decoding;
    uint64_t order = 0, planned = 0, answered = 0;
    for (int64_t i = 0; i < kDecoding; ++i) {
      decoding.push_back(MakeSequence(++order, 3, 5'000));
      planner.Add(decoding.back().get());
    }
    const auto turn = [&] {
      std::shared_ptr<const v1::StepPlan> made;
      while (auto plan = planner.Next()) {
        ++planned;
        made = plan;
      }
      Answer(&planner, ++answered, 7);
      return made;
    };
    for (int i = 0; i < 20; ++i) turn();
    const auto huge = MakeSequence(++order, kHuge, 2);
    planner.Add(huge.get());
    std::vector<uint64_t> last(kDecoding, planned);
    std::unique_ptr<Sequence> quick;
    uint64_t quick_since = 0, quick_served = 0, steps = 0;
    while (huge->generated() == 0) {
      const auto plan = turn();
      ASSERT_NE(plan, nullptr);
      ASSERT_LT(++steps, 600u);
      int64_t tokens = 0;
      for (const v1::Row& row : plan->rows()) tokens += row.count();
      EXPECT_LE(tokens, kBudget);
      for (size_t i = 0; i < decoding.size(); ++i) {
        const bool runs = std::ranges::any_of(
            plan->rows(), [&](const v1::Row& row) { return row.sequence() == decoding[i]->id; });
        if (runs) last[i] = plan->step();
        EXPECT_LE(plan->step() - last[i], static_cast<uint64_t>(stages) - 1) << "decoding sequence " << i;
      }
      if (quick == nullptr && steps % 40 == 0) {
        quick = MakeSequence(++order, 100, 2);
        planner.Add(quick.get());
        quick_since = planned;
      } else if (quick != nullptr && quick->generated() > 0) {
        EXPECT_LE(answered - quick_since, 2 + static_cast<uint64_t>(planner.in_flight()));
        planner.Remove(quick.get());
        quick.reset();
        ++quick_served;
      }
    }
    EXPECT_LE(steps, kHuge / (kBudget / 2 - kDecoding)) << "and it goes on itself";
    EXPECT_GE(quick_served, 2u);
  }
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
