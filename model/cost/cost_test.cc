// Expected values are worked out by hand from the shapes of the released model, or are others' tables of its
// limits (stated beside each).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/check.h"
#include "model/cost/rank_memory.h"
#include "model/cost/step_cost.h"
#include "tests/support/small_model.h"

namespace fulger {
namespace {

constexpr double kGB = 1e9;

Plan PlanOf(const ModelConfig& config, const Layout& layout) {
  auto plan = MakePlan(config, layout);
  FULGER_CHECK(plan.ok(), "{}", Message(plan.status()));
  return *std::move(plan);
}

std::vector<DType> AllAs(const std::vector<TensorSpec>& table, DType dtype) {
  return std::vector<DType>(table.size(), dtype);
}

TEST(RankMemory, ReleasedModelOnEightRanks) {
  const ModelConfig config = ReleasedVl01Config();
  const Plan plan = PlanOf(config, {.tp = 8});
  const auto table = TensorTable(config);
  const CacheSizes sizes{.blocks = 16384, .block_size = 16, .slots = 64, .max_step_tokens = 2048};
  const RankMemory m = MemoryOfRank(config, plan, table, 0, AllAs(table, DType::kBF16), sizes);
  // 10 softmax layers, 1 KV head of 128, keys and values, 4 bytes each: 10,240 bytes a token.
  EXPECT_EQ(m.kv, int64_t{262144} * 10240);
  // 70 lightning layers, 8 heads, 128 x 128 float32.
  EXPECT_EQ(m.slots, int64_t{64} * 70 * 8 * 128 * 128 * 4);
  // Per token: 3 x 6144 + 2, attention 5 x 1024, experts and index 2 x 2 + 6144 + 4. Logits of 64 rows:
  // hidden, an index, and nine runs of 25,008.
  EXPECT_EQ(m.arena, (int64_t{2048} * (18434 + 5120 + 6152) + int64_t{64} * (6145 + 9 * 25008)) * 4 + 65536);
  // 1/8 of all that is cut, all of routers, norms but the cut ones, and the tower: 106.87 GiB.
  EXPECT_NEAR(static_cast<double>(m.weight_total()) / (1 << 30), 106.87, 0.005);
}

TEST(RankMemory, ARankWithTheTowerAloneHoldsNoCaches) {
  const ModelConfig config = ReleasedVl01Config();
  const Plan plan = PlanOf(config, {.tp = 8, .vision = 1});
  const auto table = TensorTable(config);
  const RankMemory m =
      MemoryOfRank(config, plan, table, 8, AllAs(table, DType::kBF16), {.blocks = 9, .slots = 9});
  EXPECT_EQ(m.kv, 0);
  EXPECT_EQ(m.slots, 0);
  // Tower, projector and newline: 303,505,408 + 44,052,480 + 6,144 parameters.
  EXPECT_EQ(m.weight_total(), 2 * int64_t{347'564'032});
  // 8 tiles of 577 tokens; the projector needs most: stream, features without class token, wide ones.
  EXPECT_EQ(m.arena, int64_t{8} * 577 * (1024 + 1024 + 6144) * 4 + 65536);
}

TEST(RankMemory, APassOfTheVisionStageIsABatchOrTwo) {
  EXPECT_EQ(TilesPerPass({.tp = 8, .vision = 2}), 8);  // a picture has one owner
  EXPECT_EQ(TilesPerPass({}), 8);
  EXPECT_EQ(TilesPerPass({.tp = 2}), 16);
  EXPECT_EQ(TilesPerPass({.pp = 2, .tp = 8}), 16);
}

TEST(RankMemory, OneWideExpertWidensItsStack) {
  const ModelConfig config = testing_support::SmallModel();
  const Plan plan = PlanOf(config, {});
  const auto table = TensorTable(config);
  std::vector<DType> held = AllAs(table, DType::kBF16);
  const RankPlan& rank = plan.ranks[0];
  const auto before = RankWeightBytes(table, rank, held);
  EXPECT_EQ(before, RankWeightBytes(table, rank, DType::kBF16));
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].layer == 2 && table[i].expert == 1 && table[i].name.ends_with("w3.weight"))
      held[i] = DType::kF32;
  }
  const auto after = RankWeightBytes(table, rank, held);
  // All four experts' w3 of that layer: 4 x 20 x 24 elements, two bytes more each.
  const auto experts = static_cast<size_t>(Component::kExperts);
  EXPECT_EQ(after[experts] - before[experts], 4 * 20 * 24 * 2);
}

TEST(HeldType, HalfIsWidened) {
  EXPECT_EQ(HeldType(DType::kF16, false), DType::kF32);
  EXPECT_EQ(HeldType(DType::kBF16, false), DType::kBF16);
  EXPECT_EQ(HeldType(DType::kBF16, true), DType::kF32);
}

TEST(ExpertPicks, DistinctExpertsFollowTheFormula) {
  // E (1 - (1 - k/E)^T): 2.00, 7.28, 12.90, 20.61, 31.49 of the released 32.
  for (const int64_t rows : {1, 4, 8, 16, 64}) {
    const double expected = 32 * (1 - std::pow(1 - 2.0 / 32, static_cast<double>(rows)));
    EXPECT_NEAR(SampleExpertPicks(32, 2, 1, rows).mean_experts, expected, 0.02 * expected) << rows;
  }
}

TEST(ExpertPicks, TheGroupThatGotMost) {
  // Two of eight experts in two groups of four: both in one group with probability 3/7.
  const ExpertPicks picks = SampleExpertPicks(8, 2, 2, 1);
  EXPECT_NEAR(picks.mean_experts, 1, 1e-9);
  EXPECT_NEAR(picks.most_experts, 10.0 / 7, 0.03);
  EXPECT_NEAR(picks.most_share, 5.0 / 7, 0.02);
  EXPECT_EQ(SampleExpertPicks(8, 2, 1, 5).most_share, 1);
}

// Bytes of a decode step of one rank of eight at 4.3 TB/s: attention and head 4.99 GB, experts 6.79 GB at
// batch 1 and 106.97 GB at 64, states 4.70 GB at 64 (a published roofline of this model; its cache is
// bfloat16).
TEST(PredictStep, WeightsAndStatesOfTheRelease) {
  const ModelConfig config = ReleasedVl01Config();
  const Plan plan = PlanOf(config, {.tp = 8});
  const auto table = TensorTable(config);
  const std::vector<RankMemory> memory = {
      MemoryOfRank(config, plan, table, 0, AllAs(table, DType::kBF16), {.blocks = 1, .slots = 1})};
  const std::vector<StageRates> rates = {
      {.read_bytes_per_second = 4300 * kGB,
       .flops_per_second = 790e12,
       .collective = {.latency_seconds = 1e-5, .bytes_per_second = 460 * kGB}}};
  const StepTime one = PredictStep(config, plan, memory, rates, {.context = 4096}, 1);
  EXPECT_NEAR(one.weights, (4.99 + 6.79) / 4300, 0.02 * one.weights);
  const StepTime many = PredictStep(config, plan, memory, rates, {.sequences = 64, .context = 4096}, 1);
  EXPECT_NEAR(many.weights, (4.99 + 106.97) / 4300, 0.01 * many.weights);
  EXPECT_NEAR(many.states, 4.70 / 4300, 0.01 * many.states);
  EXPECT_NEAR(many.kv, 2 * 1.34 / 4300, 0.01 * many.kv);
  // 160 of the layers, the embedding's, and the gather of logits.
  EXPECT_NEAR(one.collectives, 162e-5, 0.1 * one.collectives);
  EXPECT_EQ(one.messages, 0);
  EXPECT_EQ(one.bubble, 0);
  // A prompt is bound by FLOP: 91.9 GFLOP a token over eight ranks.
  const StepTime prompt = PredictStep(config, plan, memory, rates, {.rows = 4096, .context = 2048}, 1);
  const double flops = 4096 * 92.9e9 / 8 / 790e12;
  EXPECT_NEAR(prompt.weights + prompt.states + prompt.kv + prompt.compute, flops, 0.03 * flops);
}

TEST(WorkOfStep, OneTokenOfTheReleaseInEveryLayout) {
  const ModelConfig config = ReleasedVl01Config();
  const auto table = TensorTable(config);
  for (const Layout& layout : {Layout{}, Layout{.tp = 8}, Layout{.pp = 4, .tp = 8, .ep = 4}}) {
    SCOPED_TRACE(ToString(layout));
    const Plan plan = PlanOf(config, layout);
    std::vector<RankMemory> memory;
    for (int p = 0; p < layout.pp; ++p) {
      const RankPlan& rank = plan.ranks[static_cast<size_t>(plan.stage_rank(p, 0))];
      memory.push_back({.weights = RankWeightBytes(table, rank, DType::kBF16)});
    }
    const StepShape one{.sequences = 1, .rows = 1, .context = 0};
    const StepWork work = WorkOfStep(config, plan, memory, {&one, 1});
    // Two FLOP for each of 70 x 5 x 6144 x 8192 (lightning), 10 x 2 x 6144 x 9216 (softmax), 80 x 2 x 3 x
    // 6144 x 9216 (experts) and 6144 x 200064 (head), and of 80 x 6144 x 32 (router) on each rank of a stage,
    // which all route alike; 70 x 5 x 8192 x 128 of states.
    EXPECT_NEAR(work.flops, 94'313'644'032.0 + layout.tp * 31'457'280.0 + 367'001'600, 1);
    EXPECT_NEAR(work.kv, 10 * 8 * 128 * 2 * 4, 1e-6);
    EXPECT_NEAR(work.states, 2.0 * 70 * 64 * 128 * 128 * 4, 1);
    // Two of 32 experts, and all the rest but the embedding and the tower: about the parameters of the
    // products.
    EXPECT_NEAR(work.weights, 2.0 * 47'172'550'656, 0.004 * 2 * 47e9);

    // A chunk of a prompt beside it: work adds up, weights are read once. With 513 rows nearly all experts.
    const StepShape both[] = {one, {.sequences = 1, .rows = 512, .context = 1000}};
    const StepWork more = WorkOfStep(config, plan, memory, both);
    const StepWork chunk = WorkOfStep(config, plan, memory, {both + 1, 1});
    EXPECT_NEAR(more.flops, work.flops + chunk.flops, 1e-6 * more.flops);
    EXPECT_NEAR(more.kv, work.kv + chunk.kv, 1);
    EXPECT_NEAR(chunk.kv, (1000 + 512) * 81920.0, 1);
    EXPECT_NEAR(more.weights, chunk.weights, 1e-6 * more.weights);
    EXPECT_NEAR(more.weights, 2 * 455e9, 0.01 * 2 * 455e9);
  }
}

TEST(PredictStep, StagesWaitForEachOther) {
  const ModelConfig config = testing_support::SmallModel();
  const Plan plan = PlanOf(config, {.pp = 2});
  const auto table = TensorTable(config);
  std::vector<RankMemory> memory;
  for (int p = 0; p < 2; ++p) {
    memory.push_back(
        MemoryOfRank(config, plan, table, p, AllAs(table, DType::kBF16), {.blocks = 1, .slots = 1}));
  }
  const StageRates rate{.read_bytes_per_second = 1e6, .flops_per_second = 1e15, .next = {1e-3, 1e15}};
  const StepTime alone = PredictStep(config, plan, memory, {rate, rate}, {.context = 8}, 1);
  EXPECT_NEAR(alone.messages, 2e-3, 1e-9);  // there, and the ids back
  EXPECT_EQ(alone.queue, 0);
  // One group: what one stage works, the other waits.
  EXPECT_NEAR(alone.bubble, alone.latency() / 2, 1e-9);
  const StepTime two = PredictStep(config, plan, memory, {rate, rate}, {.context = 8}, 2);
  EXPECT_NEAR(two.between_tokens(), std::max(two.latency(), 2 * two.slowest_stage), 1e-12);
  EXPECT_GT(two.queue, 0);
  EXPECT_NEAR(two.bubble, two.queue, 1e-9);
}

TEST(AllReduce, LatencyAndBus) {
  EXPECT_EQ(AllReduceSeconds({1, 1}, 1, 1e9), 0);
  EXPECT_DOUBLE_EQ(AllReduceSeconds({.latency_seconds = 2e-6, .bytes_per_second = 1e9}, 8, 1e6),
                   2e-6 + 1.75e-3);
}

}  // namespace
}  // namespace fulger
