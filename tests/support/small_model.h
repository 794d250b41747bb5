// A small vision-language model and its checkpoints, for tests.
#pragma once

#include <string>
#include <vector>

#include "base/check.h"
#include "model/config.h"
#include "model/tensors.h"
#include "tests/support/safetensors_writer.h"

namespace fulger::testing_support {

// Hidden 24, 4 layers (softmax: 1 and 3), 4 heads of 6, 2 KV heads, 4 experts of width 20, vocabulary 13.
inline ModelConfig SmallModel() {
  ModelConfig config;
  TextConfig& t = config.text;
  t.vocab = 13;
  t.hidden = 24;
  t.expert_width = 20;
  t.heads = 4;
  t.kv_heads = 2;
  t.head_dim = 6;
  t.experts = 4;
  t.experts_per_token = 2;
  t.rotary_dim = 6;
  t.layer_kinds = {LayerKind::kLightning, LayerKind::kSoftmax, LayerKind::kLightning, LayerKind::kSoftmax};
  config.vision = VisionConfig{.hidden = 8,
                               .intermediate = 12,
                               .layers = 1,
                               .heads = 2,
                               .image_size = 8,
                               .patch_size = 4,
                               .layer_norm_eps = 1e-5};
  config.image_token_id = 3;
  return config;
}

// All tensors under their released names, filled with DistinctValue.
inline std::vector<TensorToWrite> ReleasedTensors(const ModelConfig& config, DType dtype = DType::kBF16) {
  std::vector<TensorToWrite> tensors;
  for (const TensorSpec& spec : TensorTable(config))
    tensors.push_back(Distinct(spec.name, spec.shape, dtype));
  return tensors;
}

inline TensorToWrite& FindTensor(std::vector<TensorToWrite>& tensors, const std::string& name) {
  for (TensorToWrite& t : tensors) {
    if (t.name == name) return t;
  }
  FULGER_CHECK(false, "no tensor {}", name);
  return tensors[0];
}

// The same numbers as transformers saves them: other prefixes, w1 above w3 in gate_up_proj, experts stacked.
inline std::vector<TensorToWrite> NativeTensors(const ModelConfig& config, DType dtype = DType::kBF16) {
  std::vector<TensorToWrite> out;
  std::vector<TensorToWrite> released = ReleasedTensors(config, dtype);
  const auto replace = [](std::string& s, const std::string& from, const std::string& to) {
    if (const size_t at = s.find(from); at != std::string::npos) s.replace(at, from.size(), to);
  };
  for (const TensorToWrite& t : released) {
    if (t.name.find(".experts.") != std::string::npos) continue;
    TensorToWrite n = t;
    replace(n.name, "block_sparse_moe", "mlp");
    if (n.name.starts_with("language_model.lm_head")) {
      replace(n.name, "language_model.", "");
    } else if (n.name.starts_with("language_model.")) {
      replace(n.name, "language_model.model.", "model.language_model.");
    } else {
      replace(n.name, "vision_tower.vision_model.", "vision_tower.");
      n.name = "model." + n.name;
    }
    out.push_back(n);
  }
  const TextConfig& text = config.text;
  for (int64_t l = 0; l < text.layers(); ++l) {
    const std::string stem = fmt::format("model.language_model.layers.{}.mlp.experts.", l);
    TensorToWrite gate_up{
        stem + "gate_up_proj", {text.experts, 2 * text.expert_width, text.hidden}, dtype, {}};
    TensorToWrite down{stem + "down_proj", {text.experts, text.hidden, text.expert_width}, dtype, {}};
    for (int64_t e = 0; e < text.experts; ++e) {
      const std::string expert =
          fmt::format("language_model.model.layers.{}.block_sparse_moe.experts.{}.", l, e);
      for (const char* part : {"w1.weight", "w3.weight"}) {
        const std::vector<float>& values = FindTensor(released, expert + part).values;
        gate_up.values.insert(gate_up.values.end(), values.begin(), values.end());
      }
      const std::vector<float>& values = FindTensor(released, expert + "w2.weight").values;
      down.values.insert(down.values.end(), values.begin(), values.end());
    }
    out.push_back(gate_up);
    out.push_back(down);
  }
  return out;
}

}  // namespace fulger::testing_support
