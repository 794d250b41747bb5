// What the model is, as data: config.json of either schema (the released "legacy" keys, and the native keys
// of Hugging Face's minimax_vl_01) read once, validated, and from then on const.
//
// Keys that decide the answer must be in the file: nothing is assumed silently. The few with a default are
// said below. Errors name the key, the expected and the found value. Pure functions; LoadModelConfig alone
// touches the disk. Parsing bounds every size, so that a bad file cannot make later code allocate without
// limit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

enum class LayerKind : uint8_t { kLightning, kSoftmax };

// h1 = alpha * x + beta * branch(x), where x is the normed tensor (post-norm residual).
struct ResidualScale {
  double alpha = 1.0;
  double beta = 1.0;
  bool operator==(const ResidualScale&) const = default;
};

struct TextConfig {
  int64_t vocab = 0;
  int64_t hidden = 0;
  int64_t expert_width = 0;  // intermediate_size
  int64_t heads = 0;         // query heads; lightning layers use the same count
  int64_t kv_heads = 0;      // softmax layers only
  int64_t head_dim = 0;      // hidden / heads when the file has none
  int64_t experts = 0;
  int64_t experts_per_token = 0;
  std::vector<LayerKind> layer_kinds;  // one per layer
  ResidualScale softmax_residual, lightning_residual, mlp_residual;
  double rms_norm_eps = 1e-5;
  double lightning_norm_eps = 1e-6;  // the reference builds that norm without passing an eps
  double rope_theta = 1e6;
  int64_t rotary_dim = 0;     // leading dims of each head that rotate; head_dim when the file has none
  int64_t block_size = 256;   // lightning prefill block: an implementation choice, never changes the answer
  int64_t max_positions = 0;  // as stated by the file; shown, not enforced
  std::optional<int32_t> bos_token_id, eos_token_id;  // the first of a list

  bool operator==(const TextConfig&) const = default;

  int64_t layers() const { return static_cast<int64_t>(layer_kinds.size()); }
  int64_t inner() const { return heads * head_dim; }  // need not equal hidden
};

// A CLIP vision tower without post-layernorm; the feature is the last layer's output without the class token.
struct VisionConfig {
  int64_t hidden = 0;
  int64_t intermediate = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t image_size = 0;  // tile side in pixels
  int64_t patch_size = 0;
  double layer_norm_eps = 1e-5;

  bool operator==(const VisionConfig&) const = default;
  int64_t patches_per_side() const { return image_size / patch_size; }
  int64_t patches() const { return patches_per_side() * patches_per_side(); }
};

struct ModelConfig {
  std::string model_type;  // as found: "minimax_vl_01", "minimax_text_01", ...
  bool native_schema = false;
  TextConfig text;
  std::optional<VisionConfig> vision;                        // absent for MiniMax-Text-01
  int32_t image_token_id = -1;                               // -1 without vision
  std::vector<std::array<int64_t, 2>> image_grid_pinpoints;  // as listed; empty when the file has none

  // The same model: everything but model_type and native_schema, which say how it was written down.
  bool operator==(const ModelConfig&) const;
};

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view json);
// dir/config.json
absl::StatusOr<ModelConfig> LoadModelConfig(const std::string& dir);

// The released MiniMax-VL-01, for planning without files and for tests of the manifest.
ModelConfig ReleasedVl01Config();

// Decay rate of lightning head h in layer l, GLOBAL layer index counting softmax layers:
// 2^(-8(h+1)/H) * (1 - l/max(L-1, 1) + 1e-5). float32 as the reference keeps it.
float LightningSlope(const TextConfig& text, int64_t layer, int64_t head);

}  // namespace fulger
