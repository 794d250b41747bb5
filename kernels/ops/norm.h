// Normalisations. Statistics in float32 (or better); weights f32 | bf16; activations f32.
#pragma once

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// Where a step notes which rows went bad. `rows` is i32 [T] or an empty view: -1 healthy. A norm whose sum of
// squares over row t is not finite stores `tag` (the layer) into rows[t] if that is still -1. Costs nothing:
// the sum exists anyway.
struct HealthNote {
  MutTensorView rows;
  int32_t tag = 0;
};

// out = w * x / sqrt(mean(x^2) + eps), per row.  x, out f32 [T, H] (rows may be strided; out may be x); w [H]
struct RmsNormArgs {
  TensorView x;
  TensorView w;
  float eps = 1e-5F;
  MutTensorView out;
  HealthNote health;
};

// out = RmsNorm(alpha * residual + beta * branch; w, eps). All f32 [T, H]; out may be residual or branch.
// The un-normed sum is not kept: the model's residual is the normed tensor.
struct AddRmsNormArgs {
  TensorView residual;
  TensorView branch;
  float alpha = 1;
  float beta = 1;
  TensorView w;
  float eps = 1e-5F;
  MutTensorView out;
  HealthNote health;
};

// out = alpha * a + beta * b; f32 [T, H]; out may be a or b.
struct AddScaledArgs {
  TensorView a;
  float alpha = 1;
  TensorView b;
  float beta = 1;
  MutTensorView out;
};

// out = (x - mean) / sqrt(var + eps) * w + b per row (biased variance). f32 [T, H]; out may be x.
struct LayerNormArgs {
  TensorView x;
  TensorView w;
  TensorView b;
  float eps = 1e-5F;
  MutTensorView out;
};

}  // namespace fulger
