#include "model/text_config.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>
#include <utility>

#include "model/field_reader.h"

namespace fulger {
namespace {

using nlohmann::json;

constexpr int64_t kMostLayers = 1024;
constexpr int64_t kMostExperts = 1024;
// Three tensors each: bounds the table of tensors that a bad file can ask for.
constexpr int64_t kMostLayerExperts = 100'000;

// Keys that only the released schema has.
constexpr std::string_view kLegacyKeys[] = {
    "attn_type_list",
    "decoder_attention_types",
    "layernorm_full_attention_alpha",
    "layernorm_full_attention_beta",
    "layernorm_linear_attention_alpha",
    "layernorm_linear_attention_beta",
    "layernorm_mlp_alpha",
    "layernorm_mlp_beta",
    "postnorm",
    "rotary_dim",
    "shared_intermediate_size",
    "shared_moe_mode",
};

bool IsLegacy(FieldReader& fields) {
  const json* type = fields.Find({"model_type"});
  if (type != nullptr && (*type == "minimax_text_01" || *type == "MiniMaxText01")) return true;
  return std::any_of(std::begin(kLegacyKeys), std::end(kLegacyKeys),
                     [&](std::string_view key) { return fields.Has(key); });
}

void CheckModelType(FieldReader& fields) {
  const json* type = fields.Find({"model_type"});
  if (type == nullptr) return;
  for (const char* known : {"minimax_text_01", "MiniMaxText01", "minimax_vl_01_text", "minimax"}) {
    if (*type == known) return;
  }
  fields.Fail("model_type", "minimax_text_01, MiniMaxText01, minimax_vl_01_text or minimax", *type);
}

// What the network of this family fixes: other values mean another network.
void CheckFixedValues(FieldReader& fields) {
  fields.Fixed("postnorm", true);
  fields.Fixed("hidden_act", "silu");
  fields.Fixed("tie_word_embeddings", false);
  if (fields.Has("sliding_window")) fields.Fail("sliding_window", "null", *fields.Find({"sliding_window"}));
  const json* shared = fields.Find({"shared_intermediate_size"});
  if (shared == nullptr) return;
  const bool one = shared->is_array() && shared->size() == 1;
  if ((one ? shared->front() : *shared) != 0) {
    fields.Fail("shared_intermediate_size", "0 or [0] (no shared expert)", *shared);
  }
}

std::optional<LayerKind> KindOf(const json& entry) {
  if (entry == 0 || entry == "linear_attention") return LayerKind::kLightning;
  if (entry == 1 || entry == "full_attention") return LayerKind::kSoftmax;
  return std::nullopt;
}

std::vector<LayerKind> ReadKindList(FieldReader& fields, std::string_view key, int64_t layers) {
  const json& list = *fields.Find({key});
  const bool native = key == "layer_types";
  if (!list.is_array() || static_cast<int64_t>(list.size()) != layers) {
    fields.Fail(key, fmt::format("a list of num_hidden_layers = {} entries", layers),
                list.is_array() ? json(list.size()) : list);
    return {};
  }
  std::vector<LayerKind> kinds;
  for (const json& entry : list) {
    const std::optional<LayerKind> kind = entry.is_string() == native ? KindOf(entry) : std::nullopt;
    if (!kind) {
      fields.Fail(fmt::format("{}[{}]", key, kinds.size()),
                  native ? "\"linear_attention\" or \"full_attention\"" : "0 (lightning) or 1 (softmax)",
                  entry);
      return {};
    }
    kinds.push_back(*kind);
  }
  return kinds;
}

std::vector<LayerKind> ReadLayerKinds(FieldReader& fields, int64_t layers) {
  std::vector<LayerKind> kinds;
  std::string_view first;
  for (const std::string_view key : {"attn_type_list", "decoder_attention_types", "layer_types"}) {
    if (!fields.Has(key) || !fields.status().ok()) continue;
    std::vector<LayerKind> found = ReadKindList(fields, key, layers);
    if (!first.empty() && fields.status().ok() && found != kinds) {
      fields.Fail(key, fmt::format("the same layer kinds as {}", first), *fields.Find({key}));
    }
    first = key;
    kinds = std::move(found);
  }
  if (first.empty()) fields.Missing({"attn_type_list", "layer_types"}, "the kind of every layer");
  return kinds;
}

// rotary_dim, or a factor of head_dim, or the whole head.
int64_t ReadRotaryDim(FieldReader& fields, FieldReader* rope, int64_t head_dim) {
  const std::string expected = fmt::format("an even number in 2..{} (head_dim)", head_dim);
  int64_t rotary = head_dim;
  if (rope != nullptr && rope->Has("partial_rotary_factor")) {
    const double dims = rope->Number({"partial_rotary_factor"}) * static_cast<double>(head_dim);
    rotary = std::isfinite(dims) && std::abs(dims) < 1e9 ? std::llround(dims) : 0;
    const bool whole = std::abs(dims - static_cast<double>(rotary)) < 1e-6;
    if (!whole || rotary <= 0 || rotary > head_dim || rotary % 2 != 0) {
      rope->Fail("partial_rotary_factor", fmt::format("a factor that makes {}", expected),
                 *rope->Find({"partial_rotary_factor"}));
    }
  }
  if (!fields.Has("rotary_dim")) return rotary;
  const json& value = *fields.Find({"rotary_dim"});
  const int64_t given = fields.Integer({"rotary_dim"}, {2, head_dim});
  if (given % 2 != 0) fields.Fail("rotary_dim", expected, value);
  if (rope != nullptr && given != rotary) {
    fields.Fail("rotary_dim", fmt::format("{} as in rope_parameters", rotary), value);
  }
  return given;
}

absl::Status ReadRope(FieldReader& fields, const std::string& path, TextConfig& text) {
  constexpr double kDefaultTheta = 1e6;
  const json* parameters = fields.Find({"rope_parameters"});
  std::optional<FieldReader> rope;
  if (parameters != nullptr) {
    rope.emplace(*parameters, path.empty() ? "rope_parameters" : path + ".rope_parameters");
    RETURN_IF_ERROR(rope->status());
    rope->Fixed("rope_type", "default");
    text.rope_theta = rope->PositiveOr({"rope_theta"}, kDefaultTheta);
    if (fields.Has("rope_theta") && fields.Positive({"rope_theta"}) != text.rope_theta) {
      fields.Fail("rope_theta", fmt::format("{} as in rope_parameters", text.rope_theta),
                  *fields.Find({"rope_theta"}));
    }
  } else {
    text.rope_theta = fields.PositiveOr({"rope_theta"}, kDefaultTheta);
  }
  text.rotary_dim = ReadRotaryDim(fields, rope ? &*rope : nullptr, text.head_dim);
  return rope && !rope->status().ok() ? rope->status() : fields.status();
}

void ReadSizes(FieldReader& fields, TextConfig& text) {
  text.vocab = fields.Integer({"vocab_size"}, {});
  text.hidden = fields.Integer({"hidden_size"}, {});
  text.expert_width = fields.Integer({"intermediate_size"}, {});
  text.heads = fields.Integer({"num_attention_heads"}, {1, 4096});
  text.kv_heads = fields.Integer({"num_key_value_heads"}, {1, 4096});
  text.experts = fields.Integer({"num_local_experts", "num_experts"}, {1, kMostExperts});
  text.experts_per_token = fields.Integer({"num_experts_per_tok"}, {1, text.experts});
  text.block_size = fields.IntegerOr({"block", "block_size"}, {1, 65536}, 256);
  text.max_positions = fields.IntegerOr({"max_position_embeddings"}, {1, int64_t{1} << 40}, 0);
  text.rms_norm_eps = fields.Positive({"rms_norm_eps"});
  text.lightning_norm_eps = fields.PositiveOr({"lightning_norm_eps"}, text.lightning_norm_eps);
  text.bos_token_id = fields.TokenId("bos_token_id");
  text.eos_token_id = fields.TokenId("eos_token_id");
}

void CheckHeads(FieldReader& fields, TextConfig& text) {
  if (!std::has_single_bit(static_cast<uint64_t>(text.heads))) {
    fields.Fail("num_attention_heads", "a power of two (the decay slopes are defined for those only)",
                text.heads);
  }
  if (text.heads % text.kv_heads != 0) {
    fields.Fail("num_key_value_heads", fmt::format("a divisor of num_attention_heads = {}", text.heads),
                text.kv_heads);
  }
  if (fields.Has("head_dim")) {
    text.head_dim = fields.Integer({"head_dim"}, {2, 65536});
  } else if (text.hidden % text.heads == 0) {
    text.head_dim = text.hidden / text.heads;
  } else {
    fields.Missing({"head_dim"}, fmt::format("a number, as num_attention_heads = {} does not divide {}",
                                             text.heads, text.hidden));
  }
}

ResidualScale ReadResidual(FieldReader& fields, const Key& alpha, const Key& beta) {
  return {fields.Number(alpha), fields.Number(beta)};
}

}  // namespace

absl::StatusOr<ParsedText> ParseTextConfig(const json& object, const std::string& path) {
  FieldReader fields(object, path);
  RETURN_IF_ERROR(fields.status());
  CheckModelType(fields);
  CheckFixedValues(fields);
  RETURN_IF_ERROR(fields.status());

  ParsedText parsed;
  parsed.native_schema = !IsLegacy(fields);
  TextConfig& text = parsed.text;
  ReadSizes(fields, text);
  RETURN_IF_ERROR(fields.status());
  CheckHeads(fields, text);
  const int64_t layers = fields.Integer({"num_hidden_layers"}, {1, kMostLayers});
  if (layers * text.experts > kMostLayerExperts) {
    fields.Fail("num_hidden_layers", fmt::format("at most {} experts in all layers", kMostLayerExperts),
                layers * text.experts);
  }
  RETURN_IF_ERROR(fields.status());
  text.layer_kinds = ReadLayerKinds(fields, layers);
  text.softmax_residual = ReadResidual(fields, {"layernorm_full_attention_alpha", "full_attn_alpha_factor"},
                                       {"layernorm_full_attention_beta", "full_attn_beta_factor"});
  text.lightning_residual =
      ReadResidual(fields, {"layernorm_linear_attention_alpha", "linear_attn_alpha_factor"},
                   {"layernorm_linear_attention_beta", "linear_attn_beta_factor"});
  text.mlp_residual = ReadResidual(fields, {"layernorm_mlp_alpha", "mlp_alpha_factor"},
                                   {"layernorm_mlp_beta", "mlp_beta_factor"});
  RETURN_IF_ERROR(fields.status());
  RETURN_IF_ERROR(ReadRope(fields, path, text));
  return parsed;
}

}  // namespace fulger
