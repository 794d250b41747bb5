#include "model/tensors.h"

#include <array>
#include <utility>

#include "base/check.h"

namespace fulger {
namespace {

constexpr std::string_view kTextRoot = "language_model.";
constexpr std::string_view kVisionRoot = "vision_tower.vision_model.";

// Collects the specs of one group of tensors under a common name prefix.
class TableBuilder {
 public:
  std::vector<TensorSpec> Take() { return std::move(table_); }

  void SetGroup(std::string prefix, int64_t layer) {
    prefix_ = std::move(prefix);
    layer_ = layer;
  }
  TensorSpec& Add(std::string_view suffix, std::vector<int64_t> shape, Component component,
                  Cut cut = Cut::kWhole, int64_t unit = 1) {
    TensorSpec& spec = table_.emplace_back();
    spec.name = prefix_ + std::string(suffix);
    spec.shape = std::move(shape);
    spec.component = component;
    spec.layer = layer_;
    spec.cut = cut;
    spec.unit = unit;
    return spec;
  }
  void AddWithBias(const std::string& stem, std::vector<int64_t> shape, Component component) {
    const int64_t rows = shape[0];
    Add(stem + ".weight", std::move(shape), component);
    Add(stem + ".bias", {rows}, component);
  }

 private:
  std::vector<TensorSpec> table_;
  std::string prefix_;
  int64_t layer_ = -1;
};

void AddAttention(TableBuilder& b, const TextConfig& t, LayerKind kind) {
  const int64_t d = t.head_dim;
  if (kind == LayerKind::kLightning) {
    const Component c = Component::kLightningAttention;
    b.Add("self_attn.qkv_proj.weight", {3 * t.inner(), t.hidden}, c, Cut::kQueryHeadRows, 3 * d);
    b.Add("self_attn.output_gate.weight", {t.inner(), t.hidden}, c, Cut::kQueryHeadRows, d);
    b.Add("self_attn.norm.weight", {t.inner()}, c, Cut::kQueryHeadRows, d);
    b.Add("self_attn.out_proj.weight", {t.hidden, t.inner()}, c, Cut::kQueryHeadColumns, d);
    return;
  }
  const Component c = Component::kSoftmaxAttention;
  b.Add("self_attn.q_proj.weight", {t.inner(), t.hidden}, c, Cut::kQueryHeadRows, d);
  b.Add("self_attn.k_proj.weight", {t.kv_heads * d, t.hidden}, c, Cut::kKvHeadRows, d);
  b.Add("self_attn.v_proj.weight", {t.kv_heads * d, t.hidden}, c, Cut::kKvHeadRows, d);
  b.Add("self_attn.o_proj.weight", {t.hidden, t.inner()}, c, Cut::kQueryHeadColumns, d);
}

void AddExperts(TableBuilder& b, const TextConfig& t) {
  const Component c = Component::kExperts;
  for (int64_t e = 0; e < t.experts; ++e) {
    const std::string stem = fmt::format("block_sparse_moe.experts.{}.", e);
    b.Add(stem + "w1.weight", {t.expert_width, t.hidden}, c, Cut::kExpertRows).expert = e;
    b.Add(stem + "w2.weight", {t.hidden, t.expert_width}, c, Cut::kExpertColumns).expert = e;
    b.Add(stem + "w3.weight", {t.expert_width, t.hidden}, c, Cut::kExpertRows).expert = e;
  }
}

void AddText(TableBuilder& b, const TextConfig& t) {
  const std::string root(kTextRoot);
  b.SetGroup(root + "model.", -1);
  b.Add("embed_tokens.weight", {t.vocab, t.hidden}, Component::kEmbedding, Cut::kVocabRows);
  for (int64_t l = 0; l < t.layers(); ++l) {
    b.SetGroup(fmt::format("{}model.layers.{}.", root, l), l);
    b.Add("input_layernorm.weight", {t.hidden}, Component::kNorms);
    AddAttention(b, t, t.layer_kinds[static_cast<size_t>(l)]);
    b.Add("post_attention_layernorm.weight", {t.hidden}, Component::kNorms);
    b.Add("block_sparse_moe.gate.weight", {t.experts, t.hidden}, Component::kRouter);
    AddExperts(b, t);
  }
  b.SetGroup(root, -1);
  b.Add("model.norm.weight", {t.hidden}, Component::kNorms);
  b.Add("lm_head.weight", {t.vocab, t.hidden}, Component::kLmHead, Cut::kVocabRows);
}

void AddVision(TableBuilder& b, const VisionConfig& v, int64_t text_hidden) {
  const Component c = Component::kVisionTower;
  const std::string root(kVisionRoot);
  b.SetGroup(root, -1);
  b.Add("embeddings.class_embedding", {v.hidden}, c);
  b.Add("embeddings.patch_embedding.weight", {v.hidden, 3, v.patch_size, v.patch_size}, c);
  b.Add("embeddings.position_embedding.weight", {v.patches() + 1, v.hidden}, c);
  b.AddWithBias("pre_layrnorm", {v.hidden}, c);  // the release spells it so
  for (int64_t l = 0; l < v.layers; ++l) {
    b.SetGroup(fmt::format("{}encoder.layers.{}.", root, l), l);
    b.AddWithBias("layer_norm1", {v.hidden}, c);
    for (const char* name : {"q_proj", "k_proj", "v_proj", "out_proj"}) {
      b.AddWithBias(std::string("self_attn.") + name, {v.hidden, v.hidden}, c);
    }
    b.AddWithBias("layer_norm2", {v.hidden}, c);
    b.AddWithBias("mlp.fc1", {v.intermediate, v.hidden}, c);
    b.AddWithBias("mlp.fc2", {v.hidden, v.intermediate}, c);
  }
  b.SetGroup("multi_modal_projector.", -1);
  b.AddWithBias("linear_1", {text_hidden, v.hidden}, Component::kProjector);
  b.AddWithBias("linear_2", {text_hidden, text_hidden}, Component::kProjector);
  b.SetGroup("", -1);
  b.Add("image_newline", {text_hidden}, Component::kProjector);
}

bool ReplacePrefix(std::string& name, std::string_view from, std::string_view to) {
  if (!name.starts_with(from)) return false;
  name.replace(0, from.size(), to);
  return true;
}

std::string NativeName(std::string name, std::string_view text_root) {
  constexpr std::pair<std::string_view, std::string_view> kPrefixes[] = {
      {"language_model.lm_head", "lm_head"},
      {kVisionRoot, "model.vision_tower."},
      {"multi_modal_projector.", "model.multi_modal_projector."},
      {"image_newline", "model.image_newline"},
  };
  if (!ReplacePrefix(name, "language_model.model.", text_root)) {
    for (const auto& [from, to] : kPrefixes) {
      if (ReplacePrefix(name, from, to)) break;
    }
  }
  constexpr std::string_view kMoe = "block_sparse_moe";
  if (const size_t at = name.find(kMoe); at != std::string::npos) name.replace(at, kMoe.size(), "mlp");
  return name;
}

// Experts are fused: gate_up_proj [E, 2F, H] holds w1 above w3, down_proj [E, H, F] holds w2.
TensorLocation NativeLocation(const ModelConfig& config, const TensorSpec& spec, std::string_view text_root) {
  TensorLocation at;
  at.name = NativeName(spec.name, text_root);
  at.shape = spec.shape;
  if (spec.expert < 0) return at;
  const TextConfig& t = config.text;
  const std::string_view experts = "experts.";
  at.name.resize(at.name.find(experts) + experts.size());
  at.expert = spec.expert;
  if (spec.cut == Cut::kExpertColumns) {
    at.name += "down_proj";
    at.shape = {t.experts, t.hidden, t.expert_width};
    return at;
  }
  at.name += "gate_up_proj";
  at.shape = {t.experts, 2 * t.expert_width, t.hidden};
  at.row_begin = spec.name.ends_with("w3.weight") ? t.expert_width : 0;
  return at;
}

}  // namespace

std::string_view Name(Component component) {
  switch (component) {
    case Component::kEmbedding:
      return "embedding";
    case Component::kLmHead:
      return "lm_head";
    case Component::kLightningAttention:
      return "lightning attention";
    case Component::kSoftmaxAttention:
      return "softmax attention";
    case Component::kExperts:
      return "experts";
    case Component::kRouter:
      return "routers";
    case Component::kNorms:
      return "norms";
    case Component::kVisionTower:
      return "vision tower";
    case Component::kProjector:
      return "projector";
  }
  return "?";
}

std::string_view Name(Naming naming) {
  switch (naming) {
    case Naming::kReleased:
      return "released MiniMax-VL-01";
    case Naming::kReleasedText:
      return "released MiniMax-Text-01";
    case Naming::kNative:
      return "transformers minimax_vl_01";
    case Naming::kNativeText:
      return "transformers, text only";
  }
  return "?";
}

int64_t TensorSpec::elements() const {
  int64_t n = 1;
  for (const int64_t d : shape) n *= d;
  return n;
}

bool IsProjection(const TensorSpec& spec) {
  switch (spec.component) {
    case Component::kLightningAttention:
    case Component::kSoftmaxAttention:
      return spec.shape.size() == 2;  // and not the norm
    case Component::kLmHead:
      return true;
    case Component::kEmbedding:
    case Component::kExperts:
    case Component::kRouter:
    case Component::kNorms:
    case Component::kVisionTower:
    case Component::kProjector:
      return false;
  }
  return false;
}

std::vector<TensorSpec> TensorTable(const ModelConfig& config) {
  TableBuilder builder;
  AddText(builder, config.text);
  if (config.vision) AddVision(builder, *config.vision, config.text.hidden);
  return builder.Take();
}

TensorLocation Locate(const ModelConfig& config, const TensorSpec& spec, Naming naming) {
  switch (naming) {
    case Naming::kReleased:
      return {.name = spec.name, .shape = spec.shape};
    case Naming::kReleasedText: {
      TensorLocation at{.name = spec.name, .shape = spec.shape};
      ReplacePrefix(at.name, kTextRoot, "");
      return at;
    }
    case Naming::kNative:
      return NativeLocation(config, spec, "model.language_model.");
    case Naming::kNativeText:
      return NativeLocation(config, spec, "model.");
  }
  FULGER_CHECK(false, "naming {}", static_cast<int>(naming));
  return {};
}

bool IsIgnorableTensor(std::string_view name) {
  constexpr std::array<std::string_view, 6> kSuffixes = {".slope_rate",     ".query_decay",  ".key_decay",
                                                         ".diagonal_decay", ".position_ids", ".inv_freq"};
  for (const std::string_view suffix : kSuffixes) {
    if (name.ends_with(suffix)) return true;
  }
  return name.find(".post_layernorm.") != std::string_view::npos;
}

}  // namespace fulger
