// The ViT's entry: pixels to patches to embeddings.
#pragma once

#include <array>

#include "kernels/tensor/tensor_view.h"

namespace fulger {

// Normalises (x/255 - mean) / std per channel and lays patches out as the convolution weight is stored: per
// patch [channel][y][x]. Patches row-major within the tile.
//   tiles u8 [n, S, S, 3]; out f32 [n * (S/p)^2, 3 * p * p]
struct PatchifyArgs {
  TensorView tiles;
  int64_t patch = 14;
  std::array<float, 3> mean{};
  std::array<float, 3> std{};
  MutTensorView out;
};

// out[i, 0] = cls + position[0]; out[i, 1 + j] = patches[i * P + j] + position[1 + j]
//   patches f32 [n * P, D]; cls f32 | bf16 [D]; position f32 | bf16 [P + 1, D]; out f32 [n, P + 1, D]
struct VitEmbedArgs {
  TensorView patches;
  TensorView cls;
  TensorView position;
  MutTensorView out;
};

}  // namespace fulger
