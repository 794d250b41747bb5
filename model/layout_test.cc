// Plans of the released model against the published tables of sizes, and of small models in full.
#include "model/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <set>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

Layout Make(int pp, int tp, int ep = 1, int vision = 0) {
  Layout layout;
  layout.pp = pp;
  layout.tp = tp;
  layout.ep = ep;
  layout.vision = vision;
  return layout;
}

// 8 layers (softmax: 3 and 7), 16 heads, 4 KV heads, 8 experts of width 48, vocabulary 37.
ModelConfig Small() {
  ModelConfig config;
  TextConfig& t = config.text;
  t.vocab = 37;
  t.hidden = 24;
  t.expert_width = 48;
  t.heads = 16;
  t.kv_heads = 4;
  t.head_dim = 2;
  t.experts = 8;
  t.experts_per_token = 2;
  t.rotary_dim = 2;
  for (int l = 0; l < 8; ++l) {
    t.layer_kinds.push_back(l % 4 == 3 ? LayerKind::kSoftmax : LayerKind::kLightning);
  }
  config.vision = VisionConfig{.hidden = 8,
                               .intermediate = 16,
                               .layers = 2,
                               .heads = 2,
                               .image_size = 8,
                               .patch_size = 4,
                               .layer_norm_eps = 1e-5};
  config.image_token_id = 3;
  config.image_grid_pinpoints = {{8, 8}};
  return config;
}

int64_t Sum(const ComponentBytes& bytes) { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

TEST(Layout, Prints) {
  EXPECT_EQ(ToString(Make(2, 2, 2, 1)), "pp 2 x tp 2, ep 2, vision 1");
  Layout layout = Make(2, 4);
  EXPECT_EQ(ToString(layout), "pp 2 x tp 4");
  layout.stage_layers = {3, 5};
  EXPECT_EQ(ToString(layout), "pp 2 x tp 4, stage layers 3+5");
  EXPECT_EQ(Make(2, 4, 1, 3).ranks(), 11);
}

TEST(Plan, ReleasedSizesPerRank) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  const struct {
    int tp;
    int64_t kv_bytes, slot_bytes, qkv_rows, expert_width, vocab, weight_bytes;
  } kRows[] = {
      {1, 40960, 293601280, 24576, 9216, 200064, 912'874'438'656},
      {2, 20480, 146800640, 12288, 4608, 100032, 456'801'501'184},
      {4, 10240, 73400320, 6144, 2304, 50016, 228'765'032'448},
      {8, 5120, 36700160, 3072, 1152, 25008, 114'746'798'080},
      {16, 5120, 18350080, 1536, 576, 12504, 57'753'409'536},
      {32, 5120, 9175040, 768, 288, 6252, 29'256'715'264},
      {64, 5120, 4587520, 384, 144, 3126, 15'008'368'128},
  };
  for (const auto& row : kRows) {
    SCOPED_TRACE(row.tp);
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, Make(1, row.tp)));
    const RankPlan& rank = plan.ranks.back();
    EXPECT_EQ(KvBytesPerToken(config, rank, DType::kBF16), row.kv_bytes);
    EXPECT_EQ(SlotBytes(config, rank), row.slot_bytes);
    EXPECT_EQ(rank.query_heads.size() * 384, row.qkv_rows);
    EXPECT_EQ(rank.expert_columns.size(), row.expert_width);
    EXPECT_EQ(rank.vocab.size(), row.vocab);
    EXPECT_EQ(Sum(RankWeightBytes(table, rank, DType::kBF16)), row.weight_bytes);
  }
}

TEST(Plan, ReleasedTp8Slices) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, Make(1, 8)));
  const struct {
    const char* name;
    Range rows, columns;
  } kWant[] = {
      {"language_model.model.embed_tokens.weight", {75024, 100032}, {0, 6144}},
      {"language_model.model.layers.0.self_attn.qkv_proj.weight", {9216, 12288}, {0, 6144}},
      {"language_model.model.layers.0.self_attn.output_gate.weight", {3072, 4096}, {0, 6144}},
      {"language_model.model.layers.0.self_attn.norm.weight", {3072, 4096}, {0, 1}},
      {"language_model.model.layers.0.self_attn.out_proj.weight", {0, 6144}, {3072, 4096}},
      {"language_model.model.layers.7.self_attn.q_proj.weight", {3072, 4096}, {0, 6144}},
      {"language_model.model.layers.7.self_attn.v_proj.weight", {384, 512}, {0, 6144}},
      {"language_model.model.layers.7.self_attn.o_proj.weight", {0, 6144}, {3072, 4096}},
      {"language_model.model.layers.7.block_sparse_moe.gate.weight", {0, 32}, {0, 6144}},
      {"language_model.model.layers.7.block_sparse_moe.experts.9.w1.weight", {3456, 4608}, {0, 6144}},
      {"language_model.model.layers.7.block_sparse_moe.experts.9.w2.weight", {0, 6144}, {3456, 4608}},
      {"image_newline", {0, 6144}, {0, 1}},
  };
  const std::vector<TensorSlice> slices = RankTensors(table, plan.ranks[3]);
  EXPECT_EQ(slices.size(), 8637);
  for (const auto& want : kWant) {
    const auto it = std::find_if(slices.begin(), slices.end(),
                                 [&](const TensorSlice& s) { return table[s.tensor].name == want.name; });
    ASSERT_NE(it, slices.end()) << want.name;
    EXPECT_EQ(it->rows, want.rows) << want.name;
    EXPECT_EQ(it->columns, want.columns) << want.name;
  }
}

TEST(Plan, KvHeadsReplicateAboveTheirNumber) {
  const ModelConfig config = ReleasedVl01Config();
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, Make(1, 16)));
  EXPECT_EQ(plan.ranks[0].kv_heads, (Range{0, 1}));
  EXPECT_EQ(plan.ranks[1].kv_heads, (Range{0, 1}));
  EXPECT_EQ(plan.ranks[2].kv_heads, (Range{1, 2}));
  EXPECT_EQ(plan.ranks[15].kv_heads, (Range{7, 8}));
  for (const RankPlan& rank : plan.ranks) {  // 8 query heads share one KV head
    EXPECT_EQ(rank.query_heads.begin / 8, rank.kv_heads.begin);
    EXPECT_EQ((rank.query_heads.end - 1) / 8, rank.kv_heads.begin);
  }
}

TEST(Plan, VocabularyRunsEndShortOrEmpty) {
  ModelConfig config = Small();  // 37 rows over 16: runs of 3, twelve full, one of 1, three empty
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, Make(1, 16)));
  EXPECT_EQ(plan.ranks[11].vocab, (Range{33, 36}));
  EXPECT_EQ(plan.ranks[12].vocab, (Range{36, 37}));
  EXPECT_EQ(plan.ranks[13].vocab.size(), 0);
  EXPECT_EQ(plan.ranks[15].vocab.size(), 0);
  const std::vector<TensorSpec> table = TensorTable(config);
  for (const TensorSlice& slice : RankTensors(table, plan.ranks[13])) {
    EXPECT_NE(table[slice.tensor].component, Component::kEmbedding);
    EXPECT_NE(table[slice.tensor].component, Component::kLmHead);
  }
}

TEST(Plan, StagesAndRanks) {
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(Small(), Make(3, 2)));
  ASSERT_EQ(plan.ranks.size(), 6);
  EXPECT_EQ(plan.ranks[0].layers, (Range{0, 2}));  // floor(8p/3)
  EXPECT_EQ(plan.ranks[2].layers, (Range{2, 5}));
  EXPECT_EQ(plan.ranks[5].layers, (Range{5, 8}));
  EXPECT_EQ(plan.stage_rank(2, 1), 5);
  const RankPlan& r = plan.ranks[5];
  EXPECT_EQ(r.rank, 5);
  EXPECT_EQ(r.stage, 2);
  EXPECT_EQ(r.index, 1);
  EXPECT_FALSE(r.first_stage);
  EXPECT_TRUE(r.last_stage);
  EXPECT_FALSE(r.holds_vision);
  EXPECT_TRUE(plan.ranks[1].holds_vision);
  EXPECT_EQ(r.vocab, (Range{19, 37}));
  EXPECT_EQ(plan.ranks[3].vocab, (Range{0, 0}));  // neither embedding nor head
}

TEST(Plan, StageLayersAreTakenAsGiven) {
  Layout layout = Make(3, 1);
  layout.stage_layers = {5, 1, 2};
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(Small(), layout));
  EXPECT_EQ(plan.ranks[0].layers, (Range{0, 5}));
  EXPECT_EQ(plan.ranks[1].layers, (Range{5, 6}));
  EXPECT_EQ(plan.ranks[2].layers, (Range{6, 8}));
  EXPECT_EQ(KvBytesPerToken(Small(), plan.ranks[0], DType::kF32), 1 * 2 * 4 * 2 * 4);
  EXPECT_EQ(KvBytesPerToken(Small(), plan.ranks[1], DType::kF32), 0);
  EXPECT_EQ(SlotBytes(Small(), plan.ranks[1]), 16 * 2 * 2 * 4);
}

TEST(Plan, ReleasedPipelinesBalanceSoftmaxLayers) {
  const ModelConfig config = ReleasedVl01Config();
  const auto softmax_layers = [&](int pp) {
    std::vector<int64_t> counts;
    const absl::StatusOr<Plan> plan = MakePlan(config, Make(pp, 1));
    EXPECT_OK(plan.status());
    for (const RankPlan& r : plan->ranks) {
      counts.push_back(KvBytesPerToken(config, r, DType::kBF16) / 4096);
    }
    return counts;
  };
  EXPECT_THAT(softmax_layers(4), ElementsAre(2, 3, 2, 3));
  EXPECT_THAT(softmax_layers(8), ElementsAre(1, 1, 1, 2, 1, 1, 1, 2));
  EXPECT_THAT(softmax_layers(16), ElementsAre(0, 1, 0, 1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 0, 1, 1));
}

TEST(Plan, ExpertGroups) {
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(Small(), Make(1, 8, 4)));
  const RankPlan& r = plan.ranks[5];  // group 2 of 4, second of its two ranks
  EXPECT_EQ(r.expert_group, 2);
  EXPECT_EQ(r.experts, (Range{4, 6}));
  EXPECT_EQ(r.expert_columns, (Range{24, 48}));
  ASSERT_OK_AND_ASSIGN(const Plan whole, MakePlan(Small(), Make(1, 8, 8)));
  EXPECT_EQ(whole.ranks[5].experts, (Range{5, 6}));
  EXPECT_EQ(whole.ranks[5].expert_columns, (Range{0, 48}));
}

TEST(Plan, VisionRanksHoldOnlyTheTower) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, Make(2, 4, 1, 2)));
  ASSERT_EQ(plan.ranks.size(), 10);
  EXPECT_FALSE(plan.ranks[0].holds_vision);
  for (const size_t i : {8, 9}) {
    const RankPlan& r = plan.ranks[i];
    EXPECT_TRUE(r.vision_only && r.holds_vision);
    EXPECT_EQ(r.rank, static_cast<int>(i));
    EXPECT_EQ(r.index, static_cast<int>(i) - 8);
    EXPECT_EQ(r.stage, -1);
    EXPECT_EQ(Sum(RankWeightBytes(table, r, DType::kBF16)), 2 * (303'505'408 + 44'052'480 + 6'144));
    EXPECT_EQ(KvBytesPerToken(config, r, DType::kBF16), 0);
    EXPECT_EQ(SlotBytes(config, r), 0);
  }
}

// How many ranks must hold one element of this tensor.
int Replicas(const ModelConfig& config, const Layout& layout, const TensorSpec& spec) {
  if (spec.component == Component::kVisionTower || spec.component == Component::kProjector) {
    return layout.vision > 0 ? layout.vision : layout.tp;
  }
  if (spec.cut == Cut::kWhole) return layout.tp;
  if (spec.cut == Cut::kKvHeadRows) {
    return std::max(1, layout.tp / static_cast<int>(config.text.kv_heads));
  }
  return 1;
}

TEST(Plan, RanksTogetherHoldEveryElementExactly) {
  const ModelConfig config = Small();
  const std::vector<TensorSpec> table = TensorTable(config);
  for (const Layout& layout :
       {Make(1, 1), Make(2, 2), Make(1, 4, 2), Make(3, 8, 8), Make(1, 16, 4), Make(8, 2, 1, 3)}) {
    SCOPED_TRACE(ToString(layout));
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, layout));
    std::vector<std::vector<int>> held(table.size());
    int64_t elements = 0;
    for (const RankPlan& rank : plan.ranks) {
      for (const TensorSlice& slice : RankTensors(table, rank)) {
        const TensorSpec& spec = table[slice.tensor];
        std::vector<int>& counts = held[slice.tensor];
        const int64_t columns = spec.shape.size() > 1 ? spec.shape[1] : 1;
        counts.resize(static_cast<size_t>(spec.shape[0] * columns));
        for (int64_t r = slice.rows.begin; r < slice.rows.end; ++r) {
          for (int64_t c = slice.columns.begin; c < slice.columns.end; ++c) {
            ++counts.at(static_cast<size_t>(r * columns + c));
          }
        }
        elements += SliceElements(spec, slice);
      }
    }
    int64_t want = 0;
    for (size_t i = 0; i < table.size(); ++i) {
      const int replicas = Replicas(config, layout, table[i]);
      want += replicas * table[i].elements();
      ASSERT_FALSE(held[i].empty()) << table[i].name;
      EXPECT_EQ(std::set<int>(held[i].begin(), held[i].end()), std::set<int>{replicas}) << table[i].name;
    }
    EXPECT_EQ(elements, want);
  }
}

TEST(Plan, RefusalsSayTheRuleAndWhatWorks) {
  const ModelConfig config = Small();
  ModelConfig text_only = config;
  text_only.vision.reset();
  Layout bad_stages = Make(2, 1);
  bad_stages.stage_layers = {3, 4};
  Layout short_stages = Make(2, 1);
  short_stages.stage_layers = {8};
  Layout empty_stage = Make(2, 1);
  empty_stage.stage_layers = {8, 0};
  Layout data_parallel = Make(1, 2);
  data_parallel.dp = 2;
  const auto refuse = [](const ModelConfig& c, const Layout& l) { return MakePlan(c, l).status(); };
  const auto code = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(
      refuse(config, Make(1, 3)),
      StatusIs(code, "tp 3: does not divide the 16 query heads; layouts of 3 ranks that work: pp 3 x tp 1"));
  EXPECT_THAT(
      refuse(config, Make(9, 1)),
      StatusIs(code, "pp 9: more stages than the 8 layers; no layout of 9 ranks works for this model"));
  EXPECT_THAT(
      refuse(config, Make(1, 4, 3)),
      StatusIs(code,
               "ep 3: does not divide tp 4; layouts of 4 ranks that work: pp 1 x tp 4; pp 1 x tp 4, ep 2; "
               "pp 1 x tp 4, ep 4; pp 2 x tp 2; pp 2 x tp 2, ep 2; pp 4 x tp 1"));
  EXPECT_THAT(refuse(config, Make(1, 16, 16)),
              StatusIs(code, HasSubstr("ep 16: does not divide the 8 experts")));
  EXPECT_THAT(refuse(config, Make(1, 0)), StatusIs(code, HasSubstr("must be at least 1")));
  EXPECT_THAT(refuse(config, data_parallel), StatusIs(code, HasSubstr("dp 2: attention data parallelism")));
  EXPECT_THAT(refuse(config, bad_stages), StatusIs(code, HasSubstr("expected the sum 8 (layers), found 7")));
  EXPECT_THAT(refuse(config, short_stages), StatusIs(code, HasSubstr("expected pp = 2 numbers, found 1")));
  EXPECT_THAT(refuse(config, empty_stage), StatusIs(code, HasSubstr("at least 1 layer, found 0")));
  EXPECT_THAT(refuse(text_only, Make(1, 1, 1, 1)),
              StatusIs(code, HasSubstr("vision 1: the model has no vision tower")));
  ModelConfig odd = config;
  odd.text.expert_width = 20;
  EXPECT_THAT(
      refuse(odd, Make(1, 8)),
      StatusIs(code, AllOf(HasSubstr("the 8 ranks of an expert group do not divide the expert width 20"),
                           HasSubstr("pp 1 x tp 8, ep 2"))));
  odd.text.kv_heads = 16;
  odd.text.heads = 32;
  EXPECT_THAT(refuse(odd, Make(1, 1 << 20)), StatusIs(code, HasSubstr("more than 65536 ranks")));
  odd.text.kv_heads = 6;  // no power of two: only tp 1, 2, and multiples of 6
  EXPECT_THAT(refuse(odd, Make(1, 4)), StatusIs(code, HasSubstr("tp 4: does not divide the 6 KV heads")));
  EXPECT_THAT(refuse(odd, Make(1, 16)),
              StatusIs(code, HasSubstr("tp 16: above the 6 KV heads it must be a multiple of them")));
}

TEST(Plan, HashChangesWithAnything) {
  std::set<std::string> hashes;
  const auto add = [&](const ModelConfig& config, const Layout& layout) {
    const absl::StatusOr<Plan> plan = MakePlan(config, layout);
    EXPECT_OK(plan.status());
    EXPECT_EQ(plan->hash.size(), 64);
    EXPECT_EQ(plan->hash, MakePlan(config, layout)->hash);
    EXPECT_TRUE(hashes.insert(plan->hash).second) << hashes.size();
  };
  const ModelConfig base = Small();
  for (const Layout& l : {Make(1, 1), Make(2, 1), Make(1, 2), Make(1, 2, 2), Make(1, 1, 1, 1)}) add(base, l);
  Layout staged = Make(2, 1);
  staged.stage_layers = {3, 5};
  add(base, staged);
  const std::function<void(ModelConfig&)> kChanges[] = {
      [](ModelConfig& c) { ++c.text.vocab; },
      [](ModelConfig& c) { ++c.text.hidden; },
      [](ModelConfig& c) { c.text.expert_width += 8; },
      [](ModelConfig& c) { c.text.heads *= 2; },
      [](ModelConfig& c) { c.text.kv_heads *= 2; },
      [](ModelConfig& c) { c.text.head_dim *= 2; },
      [](ModelConfig& c) { c.text.experts *= 2; },
      [](ModelConfig& c) { c.text.experts_per_token = 1; },
      [](ModelConfig& c) { c.text.layer_kinds[0] = LayerKind::kSoftmax; },
      [](ModelConfig& c) { c.text.softmax_residual.alpha = 2; },
      [](ModelConfig& c) { c.text.lightning_residual.beta = 2; },
      [](ModelConfig& c) { c.text.mlp_residual.alpha = std::nextafter(1.0, 2.0); },
      [](ModelConfig& c) { c.text.rms_norm_eps = 1e-6; },
      [](ModelConfig& c) { c.text.lightning_norm_eps = 1e-5; },
      [](ModelConfig& c) { c.text.rope_theta = 1e7; },
      [](ModelConfig& c) { c.text.rotary_dim = 0; },
      [](ModelConfig& c) { c.vision.reset(); },
      [](ModelConfig& c) { c.vision->layers = 3; },
      [](ModelConfig& c) { c.vision->layer_norm_eps = 1e-6; },
      [](ModelConfig& c) { c.image_token_id = 4; },
      [](ModelConfig& c) {
        c.image_grid_pinpoints.push_back({8, 16});
      },
  };
  for (const auto& change : kChanges) {
    ModelConfig config = base;
    change(config);
    add(config, Make(1, 1));
  }
}

TEST(PossibleLayouts, OfTheRelease) {
  const ModelConfig config = ReleasedVl01Config();
  for (const Layout& layout : PossibleLayouts(config, 16)) EXPECT_OK(MakePlan(config, layout).status());
  std::set<std::pair<int, int>> cuts;
  for (const Layout& layout : PossibleLayouts(config, 24)) cuts.insert({layout.pp, layout.tp});
  EXPECT_EQ(cuts, (std::set<std::pair<int, int>>{{3, 8}, {6, 4}, {12, 2}, {24, 1}}));
  EXPECT_TRUE(PossibleLayouts(config, 81).empty());
}

TEST(WeightFormat, Int8ExpertsTakeOneByteAndAScalePerRowAndArePartOfTheHash) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  Layout layout;
  layout.tp = 8;
  layout.ep = 2;
  ASSERT_OK_AND_ASSIGN(const Plan stored, MakePlan(config, layout));
  layout.experts = WeightFormat::kInt8;
  ASSERT_OK_AND_ASSIGN(const Plan int8, MakePlan(config, layout));
  EXPECT_NE(int8.hash, stored.hash);
  EXPECT_EQ(ToString(layout), "pp 1 x tp 8, ep 2, experts int8");
  ComponentBytes expected = RankWeightBytes(table, stored.ranks[3], DType::kBF16);
  // 80 layers x 16 experts: three matrices of 6144 x 2304, and 2304 + 2304 + 6144 scales.
  expected[static_cast<size_t>(Component::kExperts)] =
      int64_t{80} * 16 * (3 * 6144 * 2304 + 4 * (2304 + 2304 + 6144));
  EXPECT_EQ(RankWeightBytes(table, int8.ranks[3], DType::kBF16), expected);
  EXPECT_EQ(RanksOfColumns(int8, 5, Cut::kExpertColumns), (std::vector<int>{4, 5, 6, 7}));
  EXPECT_EQ(Message(WeightFormatFromName("experts", "int4").status()),
            "experts \"int4\": expected stored or int8");
}

TEST(WeightFormat, Int8ProjectionsAreAttentionsMatricesAndTheHead) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  Layout layout{.pp = 2, .tp = 8, .vision = 1};
  ASSERT_OK_AND_ASSIGN(const Plan stored, MakePlan(config, layout));
  layout.projections = WeightFormat::kInt8;
  ASSERT_OK_AND_ASSIGN(const Plan int8, MakePlan(config, layout));
  EXPECT_NE(int8.hash, stored.hash);
  EXPECT_EQ(ToString(layout), "pp 2 x tp 8, vision 1, projections int8");
  // Rank 9: of layers 40 to 79, five of them softmax. Eight heads of 128 dims, one of KV.
  ComponentBytes expected = RankWeightBytes(table, stored.ranks[9], DType::kBF16);
  const int64_t norm = 2 * 1024;
  const int64_t lightning = (3072 + 1024) * (6144 + 4) + 6144 * (1024 + 4) + norm;
  expected[static_cast<size_t>(Component::kLightningAttention)] = 35 * lightning;
  const int64_t softmax = (1024 + 128 + 128) * (6144 + 4) + 6144 * (1024 + 4);
  expected[static_cast<size_t>(Component::kSoftmaxAttention)] = 5 * softmax;
  expected[static_cast<size_t>(Component::kLmHead)] = 200064 / 8 * (6144 + 4);
  EXPECT_EQ(RankWeightBytes(table, int8.ranks[9], DType::kBF16), expected);
  // The embedding is only gathered from, and the tower stays as it is.
  EXPECT_EQ(RankWeightBytes(table, int8.ranks[16], DType::kBF16),
            RankWeightBytes(table, stored.ranks[16], DType::kBF16));
  const auto embedding = static_cast<size_t>(Component::kEmbedding);
  EXPECT_EQ(RankWeightBytes(table, int8.ranks[0], DType::kBF16)[embedding],
            RankWeightBytes(table, stored.ranks[0], DType::kBF16)[embedding]);
  EXPECT_EQ(RanksOfColumns(int8, 9, Cut::kQueryHeadColumns),
            (std::vector<int>{8, 9, 10, 11, 12, 13, 14, 15}));
}

}  // namespace
}  // namespace fulger
