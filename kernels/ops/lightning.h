// Lightning attention: a decayed linear attention with a d x d float32 state per head.
//   q, k, v = SiLU(projection);  S_t = exp(-s) S_{t-1} + k_t v_t^T;  o_t = q_t^T S_t   (current token
//   included)
// No scaling, no softmax, no denominator, no rotation (MiniMax-01, arXiv 2501.08313, section 2.2).
#pragma once

#include <cstdint>
#include <span>

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// `count` consecutive rows of one sequence, continuing from (and updating) the state in `slot`.
// slot -1: the rows are padding; nothing is read from or written to a state and their output is zero.
struct LightningSegment {
  int64_t row = 0;
  int64_t count = 0;
  int32_t slot = -1;
};

//   qkv    f32 [T, heads, 3 * d]: the projection BEFORE SiLU; per head q | k | v
//   slopes f32 [heads], in device memory as every view is
//   states f32 [slots, heads, d (key), d (value)], contiguous
//   out    f32 [T, heads * d], rows may be strided
// Prefill (count > 1) works in blocks of `block` tokens; any block size gives the same answer up to rounding.
// Decays are computed as exp(-s*n) directly: factoring exp(+s*j) overflows. Segments name distinct slots and
// rows.
struct LightningArgs {
  TensorView qkv;
  TensorView slopes;
  std::span<const LightningSegment> segments;
  MutTensorView states;
  MutTensorView out;
  int64_t block = 256;
};

// out = sigmoid(gate) * w * o, and sumsq[t] = sum over the row of o^2; NaN where the gate is NaN or infinite.
//   o, gate, out f32 [T, I]; w f32 | bf16 [I]; sumsq f32 [T]; out may be o or gate
// The norm over ALL heads of ALL ranks is 1/sqrt(mean(o^2) + eps), a scalar per token, and out_proj is
// linear: so the scalar is applied after out_proj's all-reduce, which carries the partial sums of squares
// along.
struct LightningGateArgs {
  TensorView o;
  TensorView gate;
  TensorView w;
  MutTensorView out;
  MutTensorView sumsq;
};

// x[t, :] *= 1 / sqrt(sumsq[t] / width + eps).  x f32 [T, H]; sumsq f32 [T]
struct ScaleByRmsArgs {
  MutTensorView x;
  TensorView sumsq;
  int64_t width = 0;
  float eps = 1e-6F;
};

}  // namespace fulger
