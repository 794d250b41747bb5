// Moving rows: embedding lookup, gather, scatter, and small elementwise work.
#pragma once

#include <cstdint>

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// out[t] = table[ids[t] - first_row] where that row is held, else zero (the other ranks' all-reduce fills it
// in).
//   ids i32 [T]; table f32 | bf16 [R, H]; out f32 [T, H]
struct EmbeddingArgs {
  TensorView ids;
  TensorView table;
  int64_t first_row = 0;
  MutTensorView out;
};

// out[i] = src[index[i]]; index -1 takes `fill` (f32 | bf16 [H]; absent: zero).
//   src f32 [N, H]; index i32 [n]; out f32 [n, H]. An index outside [-1, N) is INVALID_ARGUMENT, from
//   the call where host code can read `index`, else from the stream's next Synchronize; that row is not
//   written.
struct GatherRowsArgs {
  TensorView src;
  TensorView index;
  TensorView fill;
  MutTensorView out;
};

// out[index[i]] = src[i]; rows not named stay. Indices are distinct; one outside of `out` is reported as
// above.
struct ScatterRowsArgs {
  TensorView src;
  TensorView index;
  MutTensorView out;
};

// x = 0.5 x (1 + erf(x / sqrt 2)) in place. f32 [T, H]
struct GeluArgs {
  MutTensorView x;
};

}  // namespace fulger
