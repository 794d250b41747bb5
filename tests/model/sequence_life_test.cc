// What must not matter: how a prompt was cut, who else is in the batch, which slot and blocks were used
// before, how many steps are in flight.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "tests/model/golden_run.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

TEST(SequenceLife, SlotsAndBlocksAreReusedCleanly) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_text"));
  ASSERT_OK_AND_ASSIGN(const auto expected, checkpoint->ExpectedTokens());
  ThreadReplicaOptions options;
  options.runner.slots = 2;
  options.runner.blocks = 40;
  ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), Layout{}, options));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  for (int round = 0; round < 3; ++round) {
    ASSERT_OK_AND_ASSIGN(DriverRequest a, checkpoint->Request(1, 5 + round * 40));
    ASSERT_OK_AND_ASSIGN(DriverRequest b, checkpoint->Request(2, 1000));
    b.start_step = round;
    b.sampling.set_max_tokens(3 + round);
    ASSERT_OK_AND_ASSIGN(auto tokens, driver.RunAhead({a, b}, 1 + round));
    EXPECT_EQ(tokens.at(1), expected) << "round " << round;
    EXPECT_EQ(tokens.at(2), std::vector<int32_t>(expected.begin(), expected.begin() + 3 + round));
  }
}

TEST(SequenceLife, StateAfterPrefillEqualsSteppedState) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_image_middle"));
  std::vector<LogitsRecorder> recorders(3);
  const std::vector<int64_t> chunks = {4096, 1, 23};
  for (size_t i = 0; i < chunks.size(); ++i) {
    ThreadReplicaOptions options;
    options.logits = &recorders[i];
    ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), Layout{}, options));
    ASSERT_OK(checkpoint->Encode(*replica));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    ASSERT_OK_AND_ASSIGN(const DriverRequest request, checkpoint->Request(1, chunks[i]));
    ASSERT_OK(driver.Run({request}).status());
  }
  ASSERT_EQ(recorders[0].rows().size(), recorders[1].rows().size());
  for (const auto& [position, row] : recorders[0].rows()) {
    for (size_t other = 1; other < recorders.size(); ++other) {
      const auto& second = recorders[other].rows().at(position);
      double scale = 0;
      for (const float v : row) scale = std::max(scale, std::fabs(static_cast<double>(v)));
      for (size_t v = 0; v < row.size(); ++v) {
        ASSERT_NEAR(row[v], second[v], 2e-5 * scale)
            << "position " << position << ", chunk " << chunks[other];
      }
    }
  }
}

// A batch of eight with random lengths (beyond two of lightning's blocks of 256), chunks, starts and steps in
// flight: each answers as it does alone.
TEST(SequenceLife, AnyBatchAnswersAsEachAlone) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_long"));
  ASSERT_OK_AND_ASSIGN(DriverRequest base, checkpoint->Request(1));
  const std::vector<int32_t> once = base.prompt;
  base.prompt.insert(base.prompt.end(), once.rbegin(), once.rend());
  std::mt19937 random(17);
  const auto pick = [&](int64_t low, int64_t high) {
    return std::uniform_int_distribution<int64_t>(low, high)(random);
  };
  ThreadReplicaOptions options;
  options.runner.slots = 8;
  options.runner.blocks = 320;
  options.runner.max_step_tokens = 4800;
  for (const Layout& layout : {Layout{}, Layout{.pp = 4}, Layout{.pp = 2, .tp = 2, .ep = 2}}) {
    ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), layout, options));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    std::vector<DriverRequest> batch;
    std::map<uint64_t, std::vector<int32_t>> alone;
    // The batch under ids that were not used before (100 + id, 200 + id), and its tokens by the first ids.
    const auto run = [&](uint64_t base_id, int in_flight, uint64_t groups) {
      std::vector<DriverRequest> renamed = batch;
      for (DriverRequest& r : renamed) r.id += base_id;
      const auto tokens = driver.RunAhead(renamed, in_flight, groups);
      EXPECT_OK(tokens.status());
      std::map<uint64_t, std::vector<int32_t>> by_id;
      for (const DriverRequest& r : batch) {
        if (tokens.ok()) by_id[r.id] = tokens->at(r.id + base_id);
      }
      return by_id;
    };
    for (uint64_t id = 1; id <= 8; ++id) {
      DriverRequest r = base;
      r.id = id;
      r.prompt.resize(static_cast<size_t>(pick(1, static_cast<int64_t>(base.prompt.size()))));
      r.chunk = pick(1, 600);
      r.sampling.set_max_tokens(static_cast<int32_t>(pick(1, 20)));
      r.sampling.set_seed(id);
      r.sampling.set_top_p(1);
      r.sampling.set_temperature(id % 2 == 0 ? 0.7F : 0.0F);
      ASSERT_OK_AND_ASSIGN(auto tokens, driver.Run({r}));
      alone[id] = tokens.at(id);
      r.start_step = pick(0, 12);
      batch.push_back(r);
    }
    EXPECT_EQ(run(100, 3, 1), alone) << ToString(layout);
    EXPECT_EQ(run(200, 4, 4), alone) << ToString(layout) << ", four micro-batches";
  }
}

// Probes between all steps leave every state, block and token as they were; they bring neither tokens nor
// errors.
TEST(SequenceLife, ProbeStepsTouchNothing) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_text"));
  ASSERT_OK_AND_ASSIGN(const auto expected, checkpoint->ExpectedTokens());
  ThreadReplicaOptions options;
  for (const Layout& layout : {Layout{}, Layout{.pp = 4, .tp = 2, .ep = 2, .vision = 1}}) {
    ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), layout, options));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    ASSERT_OK_AND_ASSIGN(const v1::StepResult first, driver.Probe());
    EXPECT_EQ(first.step(), 1u);
    EXPECT_EQ(first.tokens_size() + first.errors_size(), 0);
    driver.ProbeBetweenSteps();
    ASSERT_OK_AND_ASSIGN(const DriverRequest request, checkpoint->Request(1, 7));
    ASSERT_OK_AND_ASSIGN(const auto tokens, driver.Run({request}));
    EXPECT_EQ(tokens.at(1), expected) << ToString(layout);
    EXPECT_GT(driver.steps(), 2 * expected.size());
  }
}

TEST(SequenceLife, StopIdEndsTheSequenceWhileLaterStepsAreInFlight) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_text"));
  ASSERT_OK_AND_ASSIGN(const auto expected, checkpoint->ExpectedTokens());
  ThreadReplicaOptions options;
  for (const Layout& layout : {Layout{}, Layout{.pp = 2}}) {
    ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), layout, options));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    ASSERT_OK_AND_ASSIGN(DriverRequest stops, checkpoint->Request(1));
    stops.sampling.add_stop_ids(expected[9]);
    ASSERT_OK_AND_ASSIGN(const DriverRequest goes_on, checkpoint->Request(2));
    ASSERT_OK_AND_ASSIGN(auto tokens, driver.RunAhead({stops, goes_on}, 4));
    const auto first = std::find(expected.begin(), expected.end(), expected[9]);
    EXPECT_EQ(tokens.at(1), std::vector<int32_t>(expected.begin(), first + 1));
    EXPECT_EQ(tokens.at(2), expected);
  }
}

}  // namespace
}  // namespace fulger
