// config.json of both schemas. The small model is the one of transformers' own tests; the released values are
// those of the published model card and of transformers' defaults.
#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

json LegacyText() {
  return json::parse(R"({
    "architectures": ["MiniMaxText01ForCausalLM"], "model_type": "minimax_text_01",
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "num_local_experts": 3, "num_experts_per_tok": 2, "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512, "attn_type_list": [0, 1], "block": 4,
    "rope_theta": 10000000, "rotary_dim": 4, "postnorm": true, "shared_intermediate_size": [0],
    "shared_moe_mode": "sigmoid", "bos_token_id": null, "eos_token_id": null,
    "tie_word_embeddings": false, "sliding_window": null,
    "layernorm_full_attention_alpha": 3.5, "layernorm_full_attention_beta": 1.0,
    "layernorm_linear_attention_alpha": 3.25, "layernorm_linear_attention_beta": 0.75,
    "layernorm_mlp_alpha": 2.5, "layernorm_mlp_beta": 0.5})");
}

json NativeText() {
  return json::parse(R"({
    "model_type": "minimax_vl_01_text",
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "num_experts": 3, "num_experts_per_tok": 2, "hidden_act": "silu", "rms_norm_eps": 1e-05,
    "max_position_embeddings": 512, "layer_types": ["linear_attention", "full_attention"], "block_size": 4,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e7, "partial_rotary_factor": 0.25},
    "full_attn_alpha_factor": 3.5, "full_attn_beta_factor": 1,
    "linear_attn_alpha_factor": 3.25, "linear_attn_beta_factor": 0.75,
    "mlp_alpha_factor": 2.5, "mlp_beta_factor": 0.5})");
}

json VisionLanguage(json text) {
  json root = json::parse(R"({
    "architectures": ["MiniMaxVL01ForConditionalGeneration"], "model_type": "minimax_vl_01",
    "image_token_index": 3, "projector_hidden_act": "gelu", "vision_feature_layer": -1,
    "vision_feature_select_strategy": "default", "image_grid_pinpoints": [[8, 8], [8, 16]],
    "vision_config": {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 48,
      "num_hidden_layers": 5, "num_attention_heads": 4, "image_size": 8, "patch_size": 2,
      "num_channels": 3, "hidden_act": "gelu", "layer_norm_eps": 1e-6}})");
  root["text_config"] = std::move(text);
  return root;
}

absl::StatusOr<ModelConfig> Parse(const json& j) { return ParseModelConfig(j.dump()); }

TEST(ModelConfig, EveryFieldOfTheReleasedSchema) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig c, Parse(VisionLanguage(LegacyText())));
  EXPECT_EQ(c.model_type, "minimax_vl_01");
  EXPECT_FALSE(c.native_schema);
  const TextConfig& t = c.text;
  EXPECT_EQ(t.vocab, 97);
  EXPECT_EQ(t.hidden, 32);
  EXPECT_EQ(t.expert_width, 16);
  EXPECT_EQ(t.heads, 4);
  EXPECT_EQ(t.kv_heads, 2);
  EXPECT_EQ(t.head_dim, 16);
  EXPECT_EQ(t.inner(), 64);
  EXPECT_EQ(t.experts, 3);
  EXPECT_EQ(t.experts_per_token, 2);
  EXPECT_EQ(t.layer_kinds, (std::vector{LayerKind::kLightning, LayerKind::kSoftmax}));
  EXPECT_EQ(t.softmax_residual, (ResidualScale{3.5, 1.0}));
  EXPECT_EQ(t.lightning_residual, (ResidualScale{3.25, 0.75}));
  EXPECT_EQ(t.mlp_residual, (ResidualScale{2.5, 0.5}));
  EXPECT_EQ(t.rms_norm_eps, 1e-5);
  EXPECT_EQ(t.lightning_norm_eps, 1e-6);
  EXPECT_EQ(t.rope_theta, 1e7);
  EXPECT_EQ(t.rotary_dim, 4);
  EXPECT_EQ(t.block_size, 4);
  EXPECT_EQ(t.max_positions, 512);
  EXPECT_EQ(t.bos_token_id, std::nullopt);
  EXPECT_EQ(t.eos_token_id, std::nullopt);
  const VisionConfig want{.hidden = 16,
                          .intermediate = 48,
                          .layers = 5,
                          .heads = 4,
                          .image_size = 8,
                          .patch_size = 2,
                          .layer_norm_eps = 1e-6};
  EXPECT_EQ(c.vision, want);
  EXPECT_EQ(c.vision->patches(), 16);
  EXPECT_EQ(c.image_token_id, 3);
  EXPECT_EQ(c.image_grid_pinpoints, (std::vector<std::array<int64_t, 2>>{{8, 8}, {8, 16}}));
}

TEST(ModelConfig, BothSchemasAreTheSameModel) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig legacy, Parse(VisionLanguage(LegacyText())));
  json root = VisionLanguage(NativeText());
  root["image_token_id"] = root["image_token_index"];  // its alias
  root.erase("image_token_index");
  ASSERT_OK_AND_ASSIGN(const ModelConfig native, Parse(root));
  EXPECT_TRUE(native.native_schema);
  EXPECT_TRUE(native == legacy);
  root["text_config"]["mlp_beta_factor"] = 0.25;
  ASSERT_OK_AND_ASSIGN(const ModelConfig other, Parse(root));
  EXPECT_FALSE(other == legacy);
}

TEST(ModelConfig, TextModelsHaveNoVision) {
  for (const json& text : {LegacyText(), NativeText()}) {
    ASSERT_OK_AND_ASSIGN(const ModelConfig c, Parse(text));
    EXPECT_EQ(c.model_type, text["model_type"]);
    EXPECT_FALSE(c.vision.has_value());
    EXPECT_EQ(c.image_token_id, -1);
    EXPECT_TRUE(c.image_grid_pinpoints.empty());
    EXPECT_EQ(c.text.layers(), 2);
  }
}

TEST(ModelConfig, DefaultsThatTheFamilyDefines) {
  json text = LegacyText();
  for (const char* key : {"block", "rope_theta", "rotary_dim", "head_dim", "postnorm",
                          "shared_intermediate_size", "max_position_embeddings"}) {
    text.erase(key);
  }
  text["eos_token_id"] = {7, 9};
  ASSERT_OK_AND_ASSIGN(const ModelConfig c, Parse(text));
  EXPECT_EQ(c.text.block_size, 256);
  EXPECT_EQ(c.text.rope_theta, 1e6);
  EXPECT_EQ(c.text.head_dim, 8);  // 32 / 4
  EXPECT_EQ(c.text.rotary_dim, 8);
  EXPECT_EQ(c.text.max_positions, 0);
  EXPECT_EQ(c.text.eos_token_id, 7);
  text["shared_intermediate_size"] = 0;  // the scalar form
  EXPECT_OK(Parse(text).status());
  text["layer_types"] = {"linear_attention", "full_attention"};  // agrees with attn_type_list
  EXPECT_OK(Parse(text).status());
}

struct Rejection {
  const char* name;
  std::function<void(json&)> change;  // of the whole VL file with a legacy text_config
  const char* message;
};

class Rejects : public testing::TestWithParam<Rejection> {};

TEST_P(Rejects, WithKeyExpectedAndFound) {
  json root = VisionLanguage(LegacyText());
  GetParam().change(root);
  EXPECT_THAT(Parse(root).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(GetParam().message)));
}

const Rejection kRejections[] = {
    {"postnorm", [](json& j) { j["text_config"]["postnorm"] = false; },
     "text_config.postnorm: expected true, found false"},
    {"shared_list", [](json& j) { j["text_config"]["shared_intermediate_size"] = {8}; },
     "text_config.shared_intermediate_size: expected 0 or [0] (no shared expert), found [8]"},
    {"shared_scalar", [](json& j) { j["text_config"]["shared_intermediate_size"] = 8; }, "found 8"},
    {"shared_pair",
     [](json& j) {
       j["text_config"]["shared_intermediate_size"] = {0, 0};
     },
     "found [0,0]"},
    {"layer_kind",
     [](json& j) {
       j["text_config"]["attn_type_list"] = {0, 2};
     },
     "text_config.attn_type_list[1]: expected 0 (lightning) or 1 (softmax), found 2"},
    {"layer_count",
     [](json& j) {
       j["text_config"]["attn_type_list"] = {0, 1, 0};
     },
     "text_config.attn_type_list: expected a list of num_hidden_layers = 2 entries, found 3"},
    {"layer_kinds_missing", [](json& j) { j["text_config"].erase("attn_type_list"); },
     "text_config.attn_type_list (or layer_types): expected the kind of every layer, found no such key"},
    {"layer_kinds_conflict",
     [](json& j) {
       j["text_config"]["layer_types"] = {"full_attention", "full_attention"};
     },
     "text_config.layer_types: expected the same layer kinds as attn_type_list"},
    {"native_kind",
     [](json& j) {
       j["text_config"].erase("attn_type_list");
       j["text_config"]["layer_types"] = {"linear_attention", "sliding"};
     },
     "text_config.layer_types[1]: expected \"linear_attention\" or \"full_attention\", found \"sliding\""},
    {"rotary_odd", [](json& j) { j["text_config"]["rotary_dim"] = 3; },
     "text_config.rotary_dim: expected an even number in 2..16 (head_dim), found 3"},
    {"rotary_wide", [](json& j) { j["text_config"]["rotary_dim"] = 18; },
     "text_config.rotary_dim: expected an integer in 2..16, found 18"},
    {"rotary_zero", [](json& j) { j["text_config"]["rotary_dim"] = 0; }, "rotary_dim"},
    {"rotary_factor",
     [](json& j) {
       j["text_config"].erase("rotary_dim");
       j["text_config"]["rope_parameters"] = {{"rope_theta", 1e7}, {"partial_rotary_factor", 0.3}};
     },
     "text_config.rope_parameters.partial_rotary_factor: expected a factor that makes an even number"},
    {"rotary_conflict",
     [](json& j) {
       j["text_config"]["rope_parameters"] = {{"rope_theta", 1e7}, {"partial_rotary_factor", 0.5}};
     },
     "text_config.rotary_dim: expected 8 as in rope_parameters, found 4"},
    {"theta_conflict",
     [](json& j) {
       j["text_config"]["rope_parameters"] = {{"rope_theta", 1e4}, {"partial_rotary_factor", 0.25}};
     },
     "text_config.rope_theta: expected 10000 as in rope_parameters, found 10000000"},
    {"rope_type",
     [](json& j) {
       j["text_config"]["rope_parameters"] = {{"rope_type", "yarn"}, {"partial_rotary_factor", 0.25}};
     },
     "text_config.rope_parameters.rope_type: expected \"default\", found \"yarn\""},
    {"factor_conflict", [](json& j) { j["text_config"]["mlp_alpha_factor"] = 2.25; },
     "text_config.mlp_alpha_factor: expected 2.5 as in text_config.layernorm_mlp_alpha, found 2.25"},
    {"factor_missing", [](json& j) { j["text_config"].erase("layernorm_mlp_alpha"); },
     "text_config.layernorm_mlp_alpha (or mlp_alpha_factor): expected a number, found no such key"},
    {"factor_type", [](json& j) { j["text_config"]["layernorm_mlp_alpha"] = "2.5"; },
     "text_config.layernorm_mlp_alpha: expected a number, found \"2.5\""},
    {"heads_power", [](json& j) { j["text_config"]["num_attention_heads"] = 6; },
     "text_config.num_attention_heads: expected a power of two (the decay slopes are defined for those "
     "only), found 6"},
    {"kv_heads", [](json& j) { j["text_config"]["num_key_value_heads"] = 3; },
     "text_config.num_key_value_heads: expected a divisor of num_attention_heads = 4, found 3"},
    {"top_k", [](json& j) { j["text_config"]["num_experts_per_tok"] = 4; },
     "text_config.num_experts_per_tok: expected an integer in 1..3, found 4"},
    {"missing", [](json& j) { j["text_config"].erase("hidden_size"); },
     "text_config.hidden_size: expected an integer in 1..16777216, found no such key"},
    {"type", [](json& j) { j["text_config"]["hidden_size"] = "32"; },
     "text_config.hidden_size: expected an integer in 1..16777216, found \"32\""},
    {"fraction", [](json& j) { j["text_config"]["hidden_size"] = 32.5; }, "found 32.5"},
    {"negative", [](json& j) { j["text_config"]["vocab_size"] = -1; }, "found -1"},
    {"huge", [](json& j) { j["text_config"]["num_hidden_layers"] = 1e18; }, "text_config.num_hidden_layers"},
    {"eps", [](json& j) { j["text_config"]["rms_norm_eps"] = 0; },
     "text_config.rms_norm_eps: expected a number above 0, found 0"},
    {"activation", [](json& j) { j["text_config"]["hidden_act"] = "relu"; },
     "text_config.hidden_act: expected \"silu\", found \"relu\""},
    {"tied", [](json& j) { j["text_config"]["tie_word_embeddings"] = true; },
     "text_config.tie_word_embeddings: expected false, found true"},
    {"window", [](json& j) { j["text_config"]["sliding_window"] = 4096; },
     "text_config.sliding_window: expected null, found 4096"},
    {"text_type", [](json& j) { j["text_config"]["model_type"] = "llama"; },
     "text_config.model_type: expected minimax_text_01, MiniMaxText01, minimax_vl_01_text or minimax, found "
     "\"llama\""},
    {"text_not_object", [](json& j) { j["text_config"] = 5; }, "text_config: expected an object, found 5"},
    {"eos", [](json& j) { j["text_config"]["eos_token_id"] = "stop"; }, "text_config.eos_token_id"},
    {"strategy", [](json& j) { j["vision_feature_select_strategy"] = "full"; },
     "vision_feature_select_strategy: expected \"default\", found \"full\""},
    {"layer_list",
     [](json& j) {
       j["vision_feature_layer"] = {-2, -1};
     },
     "vision_feature_layer: expected -1 (the last layer; other layers and lists are not supported), found "
     "[-2,-1]"},
    {"layer_minus_two", [](json& j) { j["vision_feature_layer"] = -2; }, "found -2"},
    {"siglip", [](json& j) { j["vision_config"]["model_type"] = "siglip_vision_model"; },
     "vision_config.model_type: expected \"clip_vision_model\", found \"siglip_vision_model\""},
    {"quick_gelu", [](json& j) { j["vision_config"].erase("hidden_act"); },
     "vision_config.hidden_act: expected \"gelu\", found no such key"},
    {"vision_patch", [](json& j) { j["vision_config"]["patch_size"] = 3; },
     "vision_config.patch_size: expected a divisor of image_size = 8, found 3"},
    {"vision_missing", [](json& j) { j.erase("vision_config"); },
     "vision_config: expected the vision tower, found no such key"},
    {"projector", [](json& j) { j["multimodal_projector_bias"] = false; },
     "multimodal_projector_bias: expected true, found false"},
    {"image_token", [](json& j) { j["image_token_index"] = 97; },
     "image_token_index: expected an integer in 0..96, found 97"},
    {"image_token_conflict", [](json& j) { j["image_token_id"] = 4; },
     "image_token_id: expected 3 as in image_token_index, found 4"},
    {"image_token_missing", [](json& j) { j.erase("image_token_index"); },
     "image_token_index (or image_token_id): expected an integer"},
    {"pinpoints",
     [](json& j) {
       j["image_grid_pinpoints"] = {{8, 8}, {8, 12}};
     },
     "image_grid_pinpoints[1]: expected a pair of multiples of vision_config.image_size = 8, found [8,12]"},
    {"other_model", [](json& j) { j["model_type"] = "llava_next"; },
     "model_type: expected \"minimax_vl_01\", found \"llava_next\""},
};
INSTANTIATE_TEST_SUITE_P(ModelConfig, Rejects, testing::ValuesIn(kRejections),
                         [](const auto& param) { return std::string(param.param.name); });

TEST(ModelConfig, RejectsWhatIsNotAConfig) {
  EXPECT_THAT(ParseModelConfig("{\"model_type\": ").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected JSON")));
  EXPECT_THAT(ParseModelConfig("[1]").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, "the file: expected an object, found [1]"));
  EXPECT_THAT(ParseModelConfig("{}").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("model_type")));
  EXPECT_THAT(ParseModelConfig("{\"model_type\": 3}").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, "model_type: expected a string, found 3"));
  EXPECT_THAT(ParseModelConfig("{\"model_type\": \"llama\"}").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("found \"llama\"")));
}

TEST(ModelConfig, LoadNamesTheFile) {
  const std::string dir = testing::TempDir() + "/fulger_config_test";
  std::filesystem::create_directories(dir);
  std::ofstream(dir + "/config.json") << LegacyText().dump();
  EXPECT_OK(LoadModelConfig(dir).status());
  std::ofstream(dir + "/config.json") << "nonsense";
  EXPECT_THAT(LoadModelConfig(dir).status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                                      AllOf(HasSubstr(dir), HasSubstr("expected JSON"))));
  EXPECT_THAT(LoadModelConfig(dir + "/none").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none/config.json")));
  std::filesystem::remove_all(dir);
}

TEST(ReleasedConfig, StatedValues) {
  const ModelConfig c = ReleasedVl01Config();
  EXPECT_EQ(c.text.layers(), 80);
  EXPECT_EQ(std::count(c.text.layer_kinds.begin(), c.text.layer_kinds.end(), LayerKind::kSoftmax), 10);
  EXPECT_EQ(c.text.layer_kinds[7], LayerKind::kSoftmax);
  EXPECT_EQ(c.text.layer_kinds[79], LayerKind::kSoftmax);
  EXPECT_EQ(c.text.inner(), 8192);
  EXPECT_EQ(c.text.mlp_residual.alpha, 3.5565588200778455);
  EXPECT_EQ(c.image_grid_pinpoints.size(), 28);
  EXPECT_EQ(c.image_grid_pinpoints.front(), (std::array<int64_t, 2>{336, 336}));
  EXPECT_EQ(c.image_grid_pinpoints[21], (std::array<int64_t, 2>{1344, 1344}));
  EXPECT_EQ(c.image_grid_pinpoints[22], (std::array<int64_t, 2>{1680, 336}));
  EXPECT_EQ(c.image_grid_pinpoints.back(), (std::array<int64_t, 2>{2016, 1008}));
  EXPECT_EQ(c.vision->patches(), 576);
}

TEST(LightningSlope, TableOfTheReleasedModel) {
  const TextConfig text = ReleasedVl01Config().text;
  constexpr int64_t kHeads[] = {0, 1, 7, 15, 31, 47, 63};
  const struct {
    int64_t layer;
    double slopes[7];
  } kRows[] = {
      {0, {0.917013, 0.840905, 0.500005, 0.250003, 0.0625006, 0.0156252, 0.00390629}},
      {1, {0.905406, 0.830261, 0.493676, 0.246838, 0.0617095, 0.0154274, 0.00385684}},
      {40, {0.452707, 0.415134, 0.246840, 0.123420, 0.0308551, 0.00771376, 0.00192844}},
      {77, {0.0232245, 0.0212969, 0.0126632, 0.00633161, 0.00158290, 0.000395726, 9.89315e-05}},
      {78, {0.0116168, 0.0106527, 0.00633411, 0.00316706, 0.000791764, 0.000197941, 4.94853e-05}},
  };
  for (const auto& row : kRows) {
    for (size_t i = 0; i < 7; ++i) {
      const double got = static_cast<double>(LightningSlope(text, row.layer, kHeads[i]));
      EXPECT_NEAR(got, row.slopes[i], 5e-6 * row.slopes[i]) << row.layer << " " << kHeads[i];
    }
  }
}

TEST(LightningSlope, SmallModels) {
  TextConfig text;
  text.heads = 4;
  text.layer_kinds = {LayerKind::kLightning, LayerKind::kSoftmax};
  EXPECT_FLOAT_EQ(LightningSlope(text, 0, 0), 0.2500025F);
  EXPECT_FLOAT_EQ(LightningSlope(text, 1, 0), 0.0000025F);
  text.layer_kinds = {LayerKind::kLightning};  // one layer: no division by zero
  EXPECT_FLOAT_EQ(LightningSlope(text, 0, 3), 0.00390625F * 1.00001F);
}

}  // namespace
}  // namespace fulger
