#include "model/tensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <map>
#include <set>

#include "base/check.h"
#include "base/sha256.h"

namespace fulger {
namespace {

using ::testing::ElementsAre;

const TensorSpec& Find(const std::vector<TensorSpec>& table, const std::string& name) {
  const auto it =
      std::find_if(table.begin(), table.end(), [&](const TensorSpec& s) { return s.name == name; });
  FULGER_CHECK(it != table.end(), "{}", name);
  return *it;
}

TEST(TensorTable, NamesOfTheReleaseAreExact) {
  std::vector<std::string> names;
  for (const TensorSpec& spec : TensorTable(ReleasedVl01Config())) names.push_back(spec.name);
  std::sort(names.begin(), names.end());
  EXPECT_EQ(names.size(), 8637);
  std::string joined;
  for (const std::string& name : names) joined += (joined.empty() ? "" : "\n") + name;
  EXPECT_EQ(Sha256Hex(joined), "d0caf1b714cdfc4caa65b56cbec591668d77b0e2a5d6cf3b5af169531311c886");
}

TEST(TensorTable, ParametersOfTheRelease) {
  std::array<int64_t, kComponents> sums{};
  int64_t total = 0;
  for (const TensorSpec& spec : TensorTable(ReleasedVl01Config())) {
    sums[static_cast<size_t>(spec.component)] += spec.elements();
    total += spec.elements();
  }
  EXPECT_EQ(total, 456'437'219'328);
  const auto sum = [&](Component c) { return sums[static_cast<size_t>(c)]; };
  EXPECT_EQ(sum(Component::kEmbedding), 1'229'193'216);
  EXPECT_EQ(sum(Component::kLmHead), 1'229'193'216);
  EXPECT_EQ(sum(Component::kLightningAttention), 17'616'650'240);
  EXPECT_EQ(sum(Component::kSoftmaxAttention), 1'132'462'080);
  EXPECT_EQ(sum(Component::kExperts), 434'865'438'720);
  EXPECT_EQ(sum(Component::kRouter), 15'728'640);
  EXPECT_EQ(sum(Component::kNorms), 983'040 + 6'144);
  EXPECT_EQ(sum(Component::kVisionTower), 303'505'408);
  EXPECT_EQ(sum(Component::kProjector), 44'052'480 + 6'144);
}

TEST(TensorTable, OrderAndCuts) {
  const std::vector<TensorSpec> table = TensorTable(ReleasedVl01Config());
  EXPECT_EQ(table.front().name, "language_model.model.embed_tokens.weight");
  EXPECT_EQ(table.back().name, "image_newline");
  const TensorSpec& qkv = Find(table, "language_model.model.layers.3.self_attn.qkv_proj.weight");
  EXPECT_THAT(qkv.shape, ElementsAre(24576, 6144));
  EXPECT_EQ(qkv.cut, Cut::kQueryHeadRows);
  EXPECT_EQ(qkv.unit, 384);
  EXPECT_EQ(qkv.layer, 3);
  const TensorSpec& o = Find(table, "language_model.model.layers.7.self_attn.o_proj.weight");
  EXPECT_EQ(o.cut, Cut::kQueryHeadColumns);
  EXPECT_EQ(o.unit, 128);
  const TensorSpec& k = Find(table, "language_model.model.layers.7.self_attn.k_proj.weight");
  EXPECT_THAT(k.shape, ElementsAre(1024, 6144));
  EXPECT_EQ(k.cut, Cut::kKvHeadRows);
  const TensorSpec& w2 = Find(table, "language_model.model.layers.7.block_sparse_moe.experts.31.w2.weight");
  EXPECT_THAT(w2.shape, ElementsAre(6144, 9216));
  EXPECT_EQ(w2.cut, Cut::kExpertColumns);
  EXPECT_EQ(w2.expert, 31);
  const TensorSpec& patch = Find(table, "vision_tower.vision_model.embeddings.patch_embedding.weight");
  EXPECT_THAT(patch.shape, ElementsAre(1024, 3, 14, 14));
}

TEST(TensorTable, TextModelHasNoVision) {
  ModelConfig config = ReleasedVl01Config();
  config.vision.reset();
  const std::vector<TensorSpec> table = TensorTable(config);
  EXPECT_EQ(table.size(), 8637 - 391 - 4 - 1 + 2);
  EXPECT_EQ(table.back().name, "language_model.lm_head.weight");
}

TEST(Locate, EveryNamingOfAPlainTensor) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  const auto names = [&](const std::string& name) {
    std::vector<std::string> out;
    for (const Naming n : kNamings) out.push_back(Locate(config, Find(table, name), n).name);
    return out;
  };
  EXPECT_THAT(
      names("language_model.lm_head.weight"),
      ElementsAre("language_model.lm_head.weight", "lm_head.weight", "lm_head.weight", "lm_head.weight"));
  EXPECT_THAT(names("language_model.model.layers.0.block_sparse_moe.gate.weight"),
              ElementsAre("language_model.model.layers.0.block_sparse_moe.gate.weight",
                          "model.layers.0.block_sparse_moe.gate.weight",
                          "model.language_model.layers.0.mlp.gate.weight", "model.layers.0.mlp.gate.weight"));
  const auto native = [&](const std::string& name) {
    return Locate(config, Find(table, name), Naming::kNative).name;
  };
  EXPECT_EQ(native("vision_tower.vision_model.pre_layrnorm.bias"), "model.vision_tower.pre_layrnorm.bias");
  EXPECT_EQ(native("multi_modal_projector.linear_1.weight"), "model.multi_modal_projector.linear_1.weight");
  EXPECT_EQ(native("image_newline"), "model.image_newline");
  EXPECT_EQ(native("language_model.model.norm.weight"), "model.language_model.norm.weight");
}

TEST(Locate, NativeExpertsAreFused) {
  const ModelConfig config = ReleasedVl01Config();
  const std::vector<TensorSpec> table = TensorTable(config);
  const std::string stem = "language_model.model.layers.5.block_sparse_moe.experts.3.";
  const TensorLocation w1 = Locate(config, Find(table, stem + "w1.weight"), Naming::kNative);
  EXPECT_EQ(w1.name, "model.language_model.layers.5.mlp.experts.gate_up_proj");
  EXPECT_THAT(w1.shape, ElementsAre(32, 18432, 6144));
  EXPECT_EQ(w1.expert, 3);
  EXPECT_EQ(w1.row_begin, 0);
  EXPECT_EQ(Locate(config, Find(table, stem + "w3.weight"), Naming::kNative).row_begin, 9216);
  const TensorLocation w2 = Locate(config, Find(table, stem + "w2.weight"), Naming::kNativeText);
  EXPECT_EQ(w2.name, "model.layers.5.mlp.experts.down_proj");
  EXPECT_THAT(w2.shape, ElementsAre(32, 6144, 9216));
}

TEST(Locate, NativeHoldsTheNumberOfTensorsThatItsStateDictHas) {
  const ModelConfig config = ReleasedVl01Config();
  std::set<std::string> names;
  for (const TensorSpec& spec : TensorTable(config)) names.insert(Locate(config, spec, Naming::kNative).name);
  EXPECT_EQ(names.size(), 1117);
}

TEST(IsIgnorableTensor, BuffersAndUnusedNorms) {
  EXPECT_TRUE(IsIgnorableTensor("model.language_model.layers.0.self_attn.slope_rate"));
  EXPECT_TRUE(IsIgnorableTensor("model.language_model.layers.0.self_attn.diagonal_decay"));
  EXPECT_TRUE(IsIgnorableTensor("model.vision_tower.post_layernorm.weight"));
  EXPECT_TRUE(IsIgnorableTensor("vision_tower.vision_model.embeddings.position_ids"));
  EXPECT_FALSE(IsIgnorableTensor("language_model.model.layers.0.post_attention_layernorm.weight"));
  EXPECT_FALSE(IsIgnorableTensor("image_newline"));
}

}  // namespace
}  // namespace fulger
