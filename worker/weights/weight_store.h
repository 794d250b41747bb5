// A rank's weights in device memory, under their released names.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor_view.h"
#include "model/layout.h"

namespace fulger {

// A matrix [rows, columns] as it is held.
struct WeightMatrix {
  TensorView w;
  TensorView scale;  // float32 [rows]; empty unless w is int8
};

// The experts that this rank holds of one layer, in ascending order, cut to its intermediate columns.
struct ExpertWeights {
  TensorView w1;  // [E_local, F_local, H]
  TensorView w3;  // [E_local, F_local, H]
  TensorView w2;  // [E_local, H, F_local]
  // float32 [E_local, rows of the matrix]; empty unless the plan holds experts as int8.
  TensorView w1_scale, w3_scale, w2_scale;
};

// Filled by LoadWeights and constant from then on; views live as long as the store, which the Device must
// outlive. Element types: F32 or BF16, per tensor as stored (F16 becomes F32); one type within a stack of
// experts; int8 where the plan says so (HeldAsInt8).
class WeightStore {
 public:
  // The rank's slice, contiguous, by the tensor's name in model/tensors.h. A rank whose run of the vocabulary
  // is empty gets [0, hidden]. NOT_FOUND: the plan gives this rank nothing of it.
  absl::StatusOr<TensorView> Get(std::string_view name) const;
  // The same with the scales of its rows; of experts: Experts.
  absl::StatusOr<WeightMatrix> Matrix(std::string_view name) const;
  // Also one expert of a layer: Get("...experts.3.w1.weight") is an entry of this stack.
  absl::StatusOr<ExpertWeights> Experts(int64_t layer) const;

  // Held in memory, per component and together.
  const ComponentBytes& bytes() const { return bytes_; }
  int64_t total_bytes() const;

 private:
  friend class StoreBuilder;

  std::vector<Buffer> buffers_;
  std::map<std::string, TensorView, std::less<>> views_;
  std::map<std::string, TensorView, std::less<>> scales_;  // of int8 projections
  std::map<int64_t, ExpertWeights> experts_;
  ComponentBytes bytes_{};
};

}  // namespace fulger
