#include "model/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "model/field_reader.h"
#include "model/text_config.h"

namespace fulger {
namespace {

using nlohmann::json;

absl::StatusOr<VisionConfig> ParseVisionConfig(const json& object) {
  FieldReader fields(object, "vision_config");
  RETURN_IF_ERROR(fields.status());
  fields.Fixed("model_type", "clip_vision_model");
  fields.Fixed("num_channels", 3);
  fields.Fixed("hidden_act", "gelu");
  // CLIP's own default is another function.
  if (!fields.Has("hidden_act")) fields.Missing({"hidden_act"}, "\"gelu\"");
  VisionConfig vision;
  vision.hidden = fields.Integer({"hidden_size"}, {});
  vision.intermediate = fields.Integer({"intermediate_size"}, {});
  vision.layers = fields.Integer({"num_hidden_layers"}, {1, 1024});
  vision.heads = fields.Integer({"num_attention_heads"}, {1, 4096});
  vision.image_size = fields.Integer({"image_size"}, {1, 16384});
  vision.patch_size = fields.Integer({"patch_size"}, {1, 16384});
  vision.layer_norm_eps = fields.PositiveOr({"layer_norm_eps"}, 1e-5);
  RETURN_IF_ERROR(fields.status());
  if (vision.hidden % vision.heads != 0) {
    fields.Fail("num_attention_heads", fmt::format("a divisor of hidden_size = {}", vision.hidden),
                vision.heads);
  }
  if (vision.image_size % vision.patch_size != 0) {
    fields.Fail("patch_size", fmt::format("a divisor of image_size = {}", vision.image_size),
                vision.patch_size);
  }
  RETURN_IF_ERROR(fields.status());
  return vision;
}

std::vector<std::array<int64_t, 2>> ReadPinpoints(FieldReader& fields, int64_t tile) {
  const json* list = fields.Find({"image_grid_pinpoints"});
  std::vector<std::array<int64_t, 2>> pinpoints;
  if (list == nullptr) return pinpoints;
  constexpr size_t kMost = 4096;
  if (!list->is_array() || list->empty() || list->size() > kMost) {
    fields.Fail("image_grid_pinpoints", fmt::format("a list of 1..{} pairs", kMost), *list);
    return pinpoints;
  }
  for (const json& pair : *list) {
    bool good = pair.is_array() && pair.size() == 2;
    for (const json& side : good ? pair : json::array()) {
      good = good && side.is_number_integer() && side.get<int64_t>() > 0 && side.get<int64_t>() <= 65536 &&
             side.get<int64_t>() % tile == 0;
    }
    if (!good) {
      fields.Fail(fmt::format("image_grid_pinpoints[{}]", pinpoints.size()),
                  fmt::format("a pair of multiples of vision_config.image_size = {}", tile), pair);
      return pinpoints;
    }
    pinpoints.push_back({pair[0].get<int64_t>(), pair[1].get<int64_t>()});
  }
  return pinpoints;
}

void CheckFeatureSelection(FieldReader& fields) {
  fields.Fixed("vision_feature_select_strategy", "default");
  const json* layer = fields.Find({"vision_feature_layer"});
  if (layer != nullptr && *layer != -1) {
    fields.Fail("vision_feature_layer", "-1 (the last layer; other layers and lists are not supported)",
                *layer);
  }
}

absl::StatusOr<ModelConfig> ParseVisionLanguage(FieldReader& fields, const json& root) {
  fields.Fixed("model_type", "minimax_vl_01");
  fields.Fixed("projector_hidden_act", "gelu");
  fields.Fixed("multimodal_projector_bias", true);
  fields.Fixed("tie_word_embeddings", false);
  CheckFeatureSelection(fields);
  if (!fields.Has("text_config")) fields.Missing({"text_config"}, "the text model");
  if (!fields.Has("vision_config")) fields.Missing({"vision_config"}, "the vision tower");
  RETURN_IF_ERROR(fields.status());

  ModelConfig config;
  ASSIGN_OR_RETURN(ParsedText text, ParseTextConfig(root.at("text_config"), "text_config"));
  config.text = std::move(text.text);
  config.native_schema = text.native_schema;
  ASSIGN_OR_RETURN(config.vision, ParseVisionConfig(root.at("vision_config")));
  config.image_token_id = static_cast<int32_t>(
      fields.Integer({"image_token_index", "image_token_id"}, {0, config.text.vocab - 1}));
  config.image_grid_pinpoints = ReadPinpoints(fields, config.vision->image_size);
  RETURN_IF_ERROR(fields.status());
  return config;
}

absl::StatusOr<ModelConfig> ParseRoot(const json& root) {
  FieldReader fields(root, "");
  RETURN_IF_ERROR(fields.status());
  const json* type = fields.Find({"model_type"});
  if (type == nullptr) fields.Missing({"model_type"}, "minimax_vl_01 or minimax_text_01");
  RETURN_IF_ERROR(fields.status());
  if (!type->is_string()) {
    fields.Fail("model_type", "a string", *type);
    return fields.status();
  }
  ModelConfig config;
  if (*type == "minimax_vl_01" || fields.Has("text_config")) {
    ASSIGN_OR_RETURN(config, ParseVisionLanguage(fields, root));
  } else {
    ASSIGN_OR_RETURN(ParsedText text, ParseTextConfig(root, ""));
    config.text = std::move(text.text);
    config.native_schema = text.native_schema;
  }
  config.model_type = type->get<std::string>();
  return config;
}

}  // namespace

bool ModelConfig::operator==(const ModelConfig& other) const {
  return std::tie(text, vision, image_token_id, image_grid_pinpoints) ==
         std::tie(other.text, other.vision, other.image_token_id, other.image_grid_pinpoints);
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text) {
  try {
    return ParseRoot(json::parse(text));
  } catch (const json::exception& e) {
    return InvalidArgument("expected JSON: {}", e.what());
  }
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir) {
  const std::string path = dir + "/config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, uint64_t{16} << 20));
  absl::StatusOr<ModelConfig> config = ParseModelConfig(text);
  if (!config.ok()) return Annotate(config.status(), path);
  return config;
}

ModelConfig ReleasedVl01Config() {
  constexpr int64_t kLayers = 80;
  constexpr int64_t kTile = 336;
  constexpr int64_t kMostTiles = 18;
  const double alpha = 3.5565588200778455;  // (2 * 80)^(1/4)
  ModelConfig config;
  config.model_type = "minimax_vl_01";
  TextConfig& text = config.text;
  text.vocab = 200064;
  text.hidden = 6144;
  text.expert_width = 9216;
  text.heads = 64;
  text.kv_heads = 8;
  text.head_dim = 128;
  text.experts = 32;
  text.experts_per_token = 2;
  for (int64_t l = 0; l < kLayers; ++l) {
    text.layer_kinds.push_back((l + 1) % 8 == 0 ? LayerKind::kSoftmax : LayerKind::kLightning);
  }
  text.softmax_residual = text.lightning_residual = text.mlp_residual = {alpha, 1.0};
  text.rope_theta = 1e7;
  text.rotary_dim = 64;
  text.max_positions = 8192;
  config.vision = VisionConfig{.hidden = 1024,
                               .intermediate = 4096,
                               .layers = 24,
                               .heads = 16,
                               .image_size = kTile,
                               .patch_size = 14,
                               .layer_norm_eps = 1e-5};
  config.image_token_id = 200025;
  for (int64_t a = 1; a <= 6; ++a) {
    for (int64_t b = 1; b <= 6; ++b) {
      if (a * b <= kMostTiles) config.image_grid_pinpoints.push_back({a * kTile, b * kTile});
    }
  }
  return config;
}

float LightningSlope(const TextConfig& text, int64_t layer, int64_t head) {
  FULGER_CHECK(layer >= 0 && layer < text.layers() && head >= 0 && head < text.heads);
  const double last = static_cast<double>(std::max<int64_t>(text.layers() - 1, 1));
  const double factor = 1.0 - static_cast<double>(layer) / last + 1e-5;
  const double exponent = -8.0 * static_cast<double>(head + 1) / static_cast<double>(text.heads);
  return static_cast<float>(std::exp2(exponent) * factor);
}

}  // namespace fulger
