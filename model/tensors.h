// The table of tensors: every name and shape of a checkpoint, and how a layout cuts each one. The only place
// where tensor names are written down. Names are the released ones; `native` says where transformers' native
// scheme (fused experts, other prefixes) keeps the same numbers.
#pragma once

#include <cstdint>
#include <string>
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
  kNorms,
  kVisionTower,
  kProjector,
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

// Where the native scheme keeps this tensor: rows [row_begin, row_begin + shape[0]) of native_name[expert]
// when expert >= 0 (a 3-D tensor), else the whole tensor.
struct NativeLocation {
  std::string name;
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
  NativeLocation native;

  int64_t elements() const;
};

// In the order of the model: embedding, layers, final norm, head, tower, projector, newline.
std::vector<TensorSpec> TensorTable(const ModelConfig& config);

// Names the native state dict may hold in addition and that are never read (decay buffers, post_layernorm,
// ...).
bool IsIgnorableTensor(std::string_view name);

}  // namespace fulger
