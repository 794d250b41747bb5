// The table of tensors: every name and shape of a checkpoint, and how a layout cuts each one. The only place
// where tensor names are written down. A tensor is called by its name in the released MiniMax-VL-01, whatever
// the checkpoint calls it, also in a model without vision; Locate says where a checkpoint of each naming
// scheme keeps the same numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/config.h"

namespace fulger {

enum class Component : uint8_t {
  kEmbedding,
  kLmHead,
  kLightningAttention,
  kSoftmaxAttention,
  kExperts,
  kRouter,
  kNorms,  // of layers, and the final one
  kVisionTower,
  kProjector,  // and the newline row
};
inline constexpr int kComponents = 9;
std::string_view Name(Component component);

// Which dimension of the tensor a rank holds a part of, and in what unit.
enum class Cut : uint8_t {
  kWhole,             // every rank of the stage (or every rank with the vision tower) holds all of it
  kVocabRows,         // dim 0, runs of ceil(V/tp) rows
  kQueryHeadRows,     // dim 0, `unit` rows per query head (3*head_dim for qkv_proj, head_dim otherwise)
  kQueryHeadColumns,  // dim 1, `unit` columns per query head
  kKvHeadRows,        // dim 0, `unit` rows per KV head; replicated when tp > kv_heads
  kExpertRows,        // dim 0 of an expert of this rank's group: intermediate columns of w1, w3
  kExpertColumns,     // dim 1 of an expert of this rank's group: intermediate columns of w2
};

// How a checkpoint names its tensors.
enum class Naming : uint8_t {
  kReleased,      // MiniMax-VL-01: language_model.model.layers.0.block_sparse_moe.experts.0.w1.weight
  kReleasedText,  // MiniMax-Text-01: the same without "language_model."
  kNative,        // transformers' minimax_vl_01: model.language_model.layers.0.mlp.experts.gate_up_proj
  kNativeText,    // the same without "language_model."
};
inline constexpr Naming kNamings[] = {Naming::kReleased, Naming::kReleasedText, Naming::kNative,
                                      Naming::kNativeText};
std::string_view Name(Naming naming);

// Rows [row_begin, row_begin + spec.shape[0]) of entry `expert` of the 3-D tensor `name` of shape `shape`
// when expert >= 0, else the whole tensor `name`.
struct TensorLocation {
  std::string name;
  std::vector<int64_t> shape;  // of the stored tensor
  int64_t expert = -1;
  int64_t row_begin = 0;
};

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;  // row-major [out, in]
  Component component = Component::kNorms;
  int64_t layer = -1;   // decoder layer, or ViT layer for the tower; -1: none
  int64_t expert = -1;  // -1: not an expert's
  Cut cut = Cut::kWhole;
  int64_t unit = 1;  // rows or columns per head for the head cuts

  int64_t elements() const;
};

// The matrices of the language model that every token passes: attention's projections (qkv, q, k, v, gate,
// out) and lm_head.
bool IsProjection(const TensorSpec& spec);

// In the order of the model: embedding, layers, final norm, head, tower, projector, newline.
std::vector<TensorSpec> TensorTable(const ModelConfig& config);

TensorLocation Locate(const ModelConfig& config, const TensorSpec& spec, Naming naming);

// Names that a checkpoint may hold in addition and that are never read (decay buffers, post_layernorm,
// position ids).
bool IsIgnorableTensor(std::string_view name);

}  // namespace fulger
