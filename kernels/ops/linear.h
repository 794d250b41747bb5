// Matrix product with a weight as checkpoints store it.
#pragma once

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// out[t, n] = w_scale[n] * sum_k x[t, k] * w[n, k] + bias[n]
//   x       f32 [T, K], rows may be strided (columns contiguous)
//   w       f32 | bf16 | i8 [N, K], rows may be strided
//   w_scale f32 [N]: with i8, and only then. Row n stands for w_scale[n] times its integers; the scale is
//           applied to the finished sum
//   bias    f32 | bf16 [N], or an empty view
//   out     f32 [T, N], rows may be strided; must not overlap x
// Accumulation in float32. A row's result does not depend on T or on the other rows' values.
// T = 0 and N = 0 are legal and do nothing; K = 0 gives the bias (or zero).
struct LinearArgs {
  TensorView x;
  TensorView w;
  TensorView w_scale = {};
  TensorView bias;
  MutTensorView out;
};

}  // namespace fulger
