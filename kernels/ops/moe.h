// Mixture of experts: router and experts. No shared expert, no capacity limit, no jitter.
#pragma once

#include <cstdint>

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// logits = x gate^T in float32; the k largest (ties: lowest expert index first), weights = softmax over those
// k. (softmax over all, then renormalising the selected ones, is the same number.) A NaN or infinity among a
// row's logits, chosen or not, makes its weights NaN; ids stay legal.
//   x f32 [T, H]; gate f32 | bf16 [E, H]; ids i32 [T, k] in descending order of logit; weights f32 [T, k]
// Deterministic, and the same bits for the same row whatever T is: all ranks of a stage must decide alike.
struct RouterArgs {
  TensorView x;
  TensorView gate;
  MutTensorView ids;
  MutTensorView weights;
};

// out[t] = sum over chosen experts e held here of weights[t, e] * w2_e (SiLU(w1_e x_t) * (w3_e x_t)),
// accumulated in float32 in ascending expert order; zero where none is held.
//   x f32 [T, H]; ids i32 [T, k]; weights f32 [T, k]
//   w1, w3 f32 | bf16 | i8 [E_local, F, H]; w2 f32 | bf16 | i8 [E_local, H, F]; all i8 or none. Local expert
//   i is expert first_expert + i. out f32 [T, H], overwritten. w1_scale, w3_scale f32 [E_local, F], w2_scale
//   f32 [E_local, H]: with i8, and only then. Row r of a matrix stands for scale[r] times its integers; the
//   scale is applied to the finished sum.
struct MoeArgs {
  TensorView x;
  TensorView ids;
  TensorView weights;
  TensorView w1;
  TensorView w3;
  TensorView w2;
  TensorView w1_scale;
  TensorView w3_scale;
  TensorView w2_scale;
  int64_t first_expert = 0;
  MutTensorView out;
};

}  // namespace fulger
