#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "base/check.h"
#include "coordinator/planner/layer_weights.h"
#include "coordinator/planner/plan_report.h"
#include "coordinator/planner/stage_cuts.h"

namespace fulger {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

template <typename T>
T Value(absl::StatusOr<T> value) {
  FULGER_CHECK(value.ok(), "{}", Message(value.status()));
  return *std::move(value);
}

const PlannedModel& Vl01() {
  static const auto* const model = new PlannedModel(Value(LoadPlannedModel("minimax-vl-01", false)));
  return *model;
}

Cluster Gpus(const std::string& gpu, int nodes, int per_node = 8) {
  Cluster cluster = Value(GpuCluster(gpu));
  cluster.nodes = nodes;
  cluster.ranks_per_node = per_node;
  return cluster;
}

bool Has(const std::vector<Candidate>& candidates, const Layout& layout) {
  return std::any_of(candidates.begin(), candidates.end(),
                     [&](const Candidate& c) { return c.layout() == layout; });
}

TEST(PlannedModel, TheReleaseWithoutFiles) {
  EXPECT_EQ(Vl01().parameters(), 456'437'219'328);
  EXPECT_EQ(Vl01().stored_bytes(), 912'874'438'656);
  const PlannedModel text = Value(LoadPlannedModel("minimax-text-01", false));
  EXPECT_EQ(text.parameters(), 456'089'655'296);
  EXPECT_FALSE(text.config.vision.has_value());
  EXPECT_THAT(std::string(LoadPlannedModel("/nowhere", false).status().message()),
              HasSubstr("/nowhere/config.json"));
}

TEST(StageCuts, LiteralCases) {
  const std::vector<int64_t> ten(10, 1);
  EXPECT_THAT(BalancedStages(ten, 0, 0, 2), ElementsAre(5, 5));
  EXPECT_THAT(BalancedStages(ten, 0, 0, 3), ElementsAre(3, 3, 4));  // the even cut is as good: it stays
  EXPECT_THAT(BalancedStages(ten, 4, 0, 2), ElementsAre(3, 7));
  EXPECT_THAT(BalancedStages(ten, 0, 6, 2), ElementsAre(8, 2));
  EXPECT_THAT(BalancedStages(ten, 0, 0, 10), ElementsAre(1, 1, 1, 1, 1, 1, 1, 1, 1, 1));
  EXPECT_THAT(BalancedStages(ten, 0, 0, 11), IsEmpty());
}

// Every cut of small cases, tried.
int64_t BestByTrying(const std::vector<int64_t>& layers, size_t begin, int64_t first, int64_t last,
                     int stages) {
  const size_t left = layers.size() - begin;
  const int64_t all =
      std::accumulate(layers.begin() + static_cast<std::ptrdiff_t>(begin), layers.end(), first);
  if (stages == 1) return all + last;
  int64_t best = std::numeric_limits<int64_t>::max();
  int64_t here = first;
  for (size_t n = 1; n + static_cast<size_t>(stages) - 1 <= left; ++n) {
    here += layers[begin + n - 1];
    best = std::min(best, std::max(here, BestByTrying(layers, begin + n, 0, last, stages - 1)));
  }
  return best;
}

TEST(StageCuts, NoCutIsLighter) {
  std::mt19937 random(7);
  for (int i = 0; i < 200; ++i) {
    std::vector<int64_t> layers(4 + random() % 6);
    for (int64_t& l : layers) l = 1 + random() % 20;
    const int stages = 1 + static_cast<int>(random() % layers.size());
    const int64_t first = random() % 30, last = random() % 30;
    const std::vector<int> sizes = BalancedStages(layers, first, last, stages);
    ASSERT_EQ(sizes.size(), static_cast<size_t>(stages));
    ASSERT_EQ(std::accumulate(sizes.begin(), sizes.end(), 0), static_cast<int>(layers.size()));
    int64_t heaviest = 0;
    size_t at = 0;
    for (int p = 0; p < stages; ++p) {
      int64_t sum = (p == 0 ? first : 0) + (p == stages - 1 ? last : 0);
      for (int k = 0; k < sizes[static_cast<size_t>(p)]; ++k) sum += layers[at++];
      heaviest = std::max(heaviest, sum);
    }
    EXPECT_EQ(heaviest, BestByTrying(layers, 0, first, last, stages)) << "case " << i;
  }
}

TEST(LayerWeights, SumsAreWhatTheRankHolds) {
  for (const Layout& layout : {Layout{.pp = 3, .tp = 8, .ep = 4}, Layout{.pp = 2, .tp = 16, .vision = 1},
                               Layout{.pp = 4, .tp = 2, .ep = 2, .experts = WeightFormat::kInt8},
                               Layout{.pp = 2, .tp = 8, .projections = WeightFormat::kInt8}}) {
    const Plan plan = Value(MakePlan(Vl01().config, layout));
    LayerWeights weights(Vl01(), false);
    for (int p = 0; p < layout.pp; ++p) {
      const RankPlan& rank = plan.ranks[static_cast<size_t>(plan.stage_rank(p, 0))];
      EXPECT_EQ(weights.Stage(plan, p), RankWeightBytes(Vl01().table, rank, Vl01().held)) << ToString(layout);
    }
  }
}

TEST(FindLayouts, BfloatFitsOneNodeOfH200AndTwoOfH100) {
  PlanWishes wishes;
  wishes.experts = {WeightFormat::kStored};
  wishes.context = 4096;
  const Candidates h200 = Value(FindLayouts(Vl01(), Gpus("h200", 1), wishes));
  EXPECT_TRUE(Has(h200.fitting, {.tp = 8}));
  EXPECT_FALSE(Has(h200.fitting, {.tp = 4}));
  const Candidates h100 = Value(FindLayouts(Vl01(), Gpus("h100", 1), wishes));
  EXPECT_THAT(h100.fitting, IsEmpty());
  EXPECT_EQ(FewestNodes(Vl01(), Gpus("h100", 1), wishes), 2);
  wishes.experts = {WeightFormat::kInt8};
  EXPECT_TRUE(Has(Value(FindLayouts(Vl01(), Gpus("h100", 1), wishes)).fitting,
                  {.tp = 8, .experts = WeightFormat::kInt8}));
}

TEST(FindLayouts, Int8ProjectionsOnlyWhereTheyAreAskedFor) {
  PlanWishes wishes;
  wishes.context = 4096;
  const Cluster cluster = Gpus("h200", 1);
  for (const Candidate& c : Value(FindLayouts(Vl01(), cluster, wishes)).fitting) {
    EXPECT_EQ(c.layout().projections, WeightFormat::kStored);
  }
  wishes.projections = {WeightFormat::kStored, WeightFormat::kInt8};
  const Candidates found = Value(FindLayouts(Vl01(), cluster, wishes));
  const Layout both{.tp = 8, .experts = WeightFormat::kInt8, .projections = WeightFormat::kInt8};
  EXPECT_TRUE(Has(found.fitting, both));
  EXPECT_TRUE(Has(found.fitting, {.tp = 8, .experts = WeightFormat::kInt8}));
  // Fewer bytes to read and nothing else: the best of all when latency is asked for.
  const Candidate& best = found.fitting.front();
  EXPECT_EQ(best.layout().projections, WeightFormat::kInt8);
  EXPECT_THAT(ServeFlagsOf({Vl01(), cluster, wishes, found}, best), Contains("--projections"));
}

TEST(FindLayouts, ARefusalShowsItsArithmetic) {
  PlanWishes wishes;
  wishes.experts = {WeightFormat::kStored};
  wishes.context = 4096;
  const Cluster cluster = Gpus("h100", 1);
  const Candidates found = Value(FindLayouts(Vl01(), cluster, wishes));
  const std::string text = PlanRefusal({Vl01(), cluster, wishes, found});
  EXPECT_THAT(
      text,
      HasSubstr("pp 1 x tp 8: rank 0: weights 106.87 + KV of 131072 tokens 1.25 + states of 64 sequences "
                "and anchors 2.19 + arena 0.28 + reserve 3.00 = 113.59 GiB, a h100 has 79.65"));
  EXPECT_THAT(text, HasSubstr("experts stored: fits on 2 such nodes"));
  EXPECT_THAT(text, HasSubstr("experts int8: fits on 1 such node\n"));
}

TEST(FindLayouts, WhatIsSaidToFitFits) {
  const Cluster cluster = Gpus("h100", 2);
  PlanWishes wishes;
  wishes.context = 4096;
  const Candidates found = Value(FindLayouts(Vl01(), cluster, wishes));
  ASSERT_FALSE(found.fitting.empty());
  for (const Candidate& c : found.fitting) {
    const std::vector<RankMemory> ranks = MemoryOfRanks(Vl01(), c);
    for (size_t r = 0; r < ranks.size(); ++r) {
      EXPECT_LE(ranks[r].total() + cluster.reserve_bytes, cluster.memory_bytes)
          << ToString(c.layout()) << " rank " << r;
    }
    // And index 0 is what the page says of its stage.
    for (int p = 0; p < c.layout().pp; ++p) {
      EXPECT_EQ(ranks[static_cast<size_t>(c.plan.stage_rank(p, 0))].total(),
                c.stages[static_cast<size_t>(p)].total());
    }
  }
  // As many sequences as the page says, and not one more.
  const Candidate& best = found.fitting.front();
  const Layout& layout = best.layout();
  wishes.tp = layout.tp;
  wishes.pp = layout.pp;
  wishes.ep = layout.ep;
  wishes.vision = layout.vision;
  wishes.stage_layers = layout.stage_layers;
  wishes.experts = {layout.experts};
  wishes.anchors = 0;
  wishes.max_sequences = best.most_sequences;
  EXPECT_EQ(Value(FindLayouts(Vl01(), cluster, wishes)).fitting.size(), 1);
  ++wishes.max_sequences;
  EXPECT_EQ(Value(FindLayouts(Vl01(), cluster, wishes)).refused.size(), 1);
}

TEST(FindLayouts, GoalsRankDifferently) {
  PlanWishes wishes;
  wishes.context = 4096;
  const Cluster cluster = Gpus("h200", 2);
  const auto best = [&](PlanGoal goal) {
    wishes.goal = goal;
    return Value(FindLayouts(Vl01(), cluster, wishes)).fitting;
  };
  const auto latency = best(PlanGoal::kLatency);
  for (const Candidate& c : latency) EXPECT_GE(c.alone.between_tokens(), latency[0].alone.between_tokens());
  const auto throughput = best(PlanGoal::kThroughput);
  for (const Candidate& c : throughput) EXPECT_LE(c.tokens_per_second, throughput[0].tokens_per_second);
  const auto context = best(PlanGoal::kContext);
  for (const Candidate& c : context) EXPECT_LE(c.longest_context, context[0].longest_context);
  EXPECT_GT(context[0].longest_context, latency[0].longest_context);
}

TEST(FindLayouts, ImpossibleWishesSayTheRule) {
  PlanWishes wishes;
  wishes.tp = 3;
  EXPECT_THAT(std::string(FindLayouts(Vl01(), Gpus("h200", 1), wishes).status().message()),
              HasSubstr("tp 3: does not divide the 64 query heads"));
  wishes.tp = 16;
  EXPECT_THAT(std::string(FindLayouts(Vl01(), Gpus("h200", 1), wishes).status().message()),
              HasSubstr("8 ranks: pp 1 x tp 16 needs 16"));
}

TEST(FindLayouts, RanksOfACpuNodeShareItsMemory) {
  PlanWishes wishes;
  wishes.tp = 4;
  wishes.experts = {WeightFormat::kStored};
  wishes.vision = 0;
  Cluster cluster = CpuCluster(4, int64_t{1000} << 30, 8);
  EXPECT_EQ(Value(FindLayouts(Vl01(), cluster, wishes)).fitting.size(), 3);  // ep 1, 2, 4
  cluster.memory_bytes = int64_t{800} << 30;
  EXPECT_THAT(Value(FindLayouts(Vl01(), cluster, wishes)).fitting, IsEmpty());
}

TEST(Cluster, FromAFile) {
  const Cluster c =
      Value(ParseCluster("device = \"h200\"\nnodes = 4\nranks-per-node = 4\nread-gb-per-second = 4000\n"
                         "network-us = 12.5\nstorage-gb-per-second = 25\n"));
  EXPECT_EQ(c.ranks(), 16);
  EXPECT_EQ(c.memory_bytes, int64_t{143771} << 20);
  EXPECT_EQ(c.read_bytes_per_second[0], 4e12);
  EXPECT_DOUBLE_EQ(c.network.latency_seconds, 12.5e-6);
  EXPECT_EQ(c.source, "the cluster file");
  const auto refusal = [](const std::string& text) {
    return std::string(ParseCluster(text).status().message());
  };
  EXPECT_THAT(refusal("device = \"h300\"\n"), HasSubstr("GPU \"h300\": expected a100-80"));
  EXPECT_THAT(refusal("nodes = 2\ndevice = \"h200\"\n"), HasSubstr("device must come first"));
  EXPECT_THAT(refusal("device = \"h200\"\nspeed = 3\n"), HasSubstr("unknown name speed"));
  EXPECT_THAT(refusal("device = \"h200\"\nnodes = two\n"), HasSubstr("nodes = two: expected a number"));
  EXPECT_THAT(refusal("device = \"h200\"\nnodes = 0\n"), HasSubstr("0 nodes with 8 ranks each"));
  EXPECT_THAT(refusal("device = \"h200\"\nread-gb-per-second = 0\n"), HasSubstr("more than 0"));
  EXPECT_THAT(refusal("device = \"cpu\"\n"), HasSubstr("memory-gib must be more than 0"));
}

TEST(Cluster, ACpuNodesRatesAreShared) {
  Cluster cluster = CpuCluster(4, int64_t{1} << 40, 4);
  cluster.threads_per_rank = 1;
  cluster.read_bytes_per_second = {10e9, 18e9, 22e9, 24e9};
  const Plan two_stages = Value(MakePlan(Vl01().config, {.pp = 2, .tp = 2}));
  // One group: the two ranks of one stage work. Two groups: all four.
  EXPECT_DOUBLE_EQ(RatesOfStages(cluster, two_stages, 1)[0].read_bytes_per_second, 9e9);
  EXPECT_DOUBLE_EQ(RatesOfStages(cluster, two_stages, 2)[0].read_bytes_per_second, 6e9);
}

TEST(Cluster, AStageOverTwoNodesPaysTheNetwork) {
  const Cluster cluster = Gpus("h200", 2);
  const Plan wide = Value(MakePlan(Vl01().config, {.tp = 16}));
  const Plan stages = Value(MakePlan(Vl01().config, {.pp = 2, .tp = 8}));
  EXPECT_EQ(RatesOfStages(cluster, wide, 1)[0].collective.bytes_per_second, cluster.network.bytes_per_second);
  EXPECT_EQ(RatesOfStages(cluster, stages, 1)[0].collective.bytes_per_second,
            cluster.all_reduce_bytes_per_second);
  EXPECT_EQ(RatesOfStages(cluster, stages, 1)[0].next.bytes_per_second, cluster.network.bytes_per_second);
}

TEST(Report, PageJsonAndPicture) {
  const Cluster cluster = Gpus("h200", 2);
  PlanWishes wishes;
  wishes.experts = {WeightFormat::kStored};
  wishes.tp = 8;
  wishes.pp = 2;
  wishes.ep = 1;
  wishes.vision = 0;
  const Candidates found = Value(FindLayouts(Vl01(), cluster, wishes));
  const PlanReport report{Vl01(), cluster, wishes, found};
  const std::string page = PlanText(report, 10);
  EXPECT_THAT(page, HasSubstr("456437219328 parameters, 850.18 GiB stored"));
  EXPECT_THAT(page, HasSubstr("not measured, --reserve-gib"));
  EXPECT_THAT(page, HasSubstr("This engine has not run on such a GPU."));
  EXPECT_THAT(page, HasSubstr("fulger serve --model DIR --tp 8 --pp 2 "));
  EXPECT_LT(std::count(page.begin(), page.end(), '\n'), 40);

  const auto json = nlohmann::json::parse(PlanJson(report, 1));
  EXPECT_EQ(json["model"]["parameters"], 456'437'219'328);
  EXPECT_EQ(json["layouts"][0]["ranks"].size(), 16);
  for (const auto& rank : json["layouts"][0]["ranks"]) {
    int64_t sum = 0;
    for (const auto& [name, bytes] : rank["bytes"].items()) sum += bytes.get<int64_t>();
    EXPECT_EQ(sum, rank["total_bytes"]);
  }
  const std::string svg = PlanSvg(report);
  EXPECT_THAT(svg, HasSubstr("node 1"));
  size_t ranks = 0;
  for (size_t at = svg.find(">rank "); at != std::string::npos; at = svg.find(">rank ", at + 1)) ++ranks;
  EXPECT_EQ(ranks, 16);
}

}  // namespace
}  // namespace fulger
