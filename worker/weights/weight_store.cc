#include "worker/weights/weight_store.h"

#include <numeric>

namespace fulger {

absl::StatusOr<TensorView> WeightStore::Get(std::string_view name) const {
  const auto it = views_.find(name);
  if (it == views_.end()) return NotFound("tensor {}: this rank holds nothing of it", name);
  return it->second;
}

absl::StatusOr<WeightMatrix> WeightStore::Matrix(std::string_view name) const {
  WeightMatrix matrix;
  ASSIGN_OR_RETURN(matrix.w, Get(name));
  if (const auto scale = scales_.find(name); scale != scales_.end()) matrix.scale = scale->second;
  return matrix;
}

absl::StatusOr<ExpertWeights> WeightStore::Experts(int64_t layer) const {
  const auto it = experts_.find(layer);
  if (it == experts_.end()) return NotFound("experts of layer {}: not on this rank", layer);
  return it->second;
}

int64_t WeightStore::total_bytes() const { return std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0}); }

}  // namespace fulger
