// Softmax attention over paged keys and values, with partial rotary embedding; and the ViT's full attention.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// `count` consecutive rows of one sequence at positions position .. position+count-1. `blocks` lists the
// sequence's cache blocks from position 0 on: position p lives in blocks[p / block_size], entry p %
// block_size. An empty `blocks` marks padding: nothing is written, the output is zero.
struct AttentionSegment {
  int64_t row = 0;
  int64_t count = 0;
  int64_t position = 0;
  std::span<const int32_t> blocks;
};

// Rotates the first rotary_dim dims of each head of q (in place) and k, pairs (i, i + rotary_dim/2), angle =
// position * inv_freq[i] in float32; writes rotated k and plain v into the cache.
//   q f32 [T, heads, d] in place; k, v f32 [T, kv_heads, d]; inv_freq f32 [rotary_dim/2] (host)
//   k_cache, v_cache f32 | bf16 [blocks, kv_heads, block_size, d]
struct RopeAndCacheArgs {
  MutTensorView q;
  TensorView k;
  TensorView v;
  std::span<const float> inv_freq;
  std::span<const AttentionSegment> segments;
  MutTensorView k_cache;
  MutTensorView v_cache;
};

// Causal attention of each row over its sequence's cache (its own position included), softmax in float32.
//   q f32 [T, heads, d] rotated; out f32 [T, heads * d]; query head h uses kv head h / (heads / kv_heads)
// A row's result does not depend on how a prompt was cut into chunks beyond rounding.
struct PagedAttentionArgs {
  TensorView q;
  TensorView k_cache;
  TensorView v_cache;
  std::span<const AttentionSegment> segments;
  float scale = 1;
  MutTensorView out;
};

// Every token of a tile attends to every token of the same tile.
//   q, k, v f32 [tiles, S, heads, d] (dims 0..2 may be strided); out f32 [tiles, S, heads * d]
struct FullAttentionArgs {
  TensorView q;
  TensorView k;
  TensorView v;
  float scale = 1;
  MutTensorView out;
};

}  // namespace fulger
