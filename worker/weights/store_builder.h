// Allocates a rank's weights and says, for each slice, where in the files it comes from and where it goes.
// Internal to worker/weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "kernels/device/device.h"
#include "model/layout.h"
#include "worker/weights/loader.h"
#include "worker/weights/weight_source.h"
#include "worker/weights/weight_store.h"

namespace fulger {

// The source's rows go to `memory` back to back. What is contiguous in the file is one row.
struct LoadTarget : SliceSource {
  const TensorSpec* spec = nullptr;
  DType held = DType::kF32;
  std::byte* memory = nullptr;  // device memory
  // int8: the rows' scales in device memory, filled while loading.
  std::byte* scales = nullptr;
  // int8: other ranks hold the other columns of these rows, and the scale is that of the whole row.
  bool shares_rows = false;

  bool contiguous() const { return rows == 1 && scales == nullptr; }
  int64_t stored_bytes() const { return rows * width * static_cast<int64_t>(ByteSize(stored)); }
};

class StoreBuilder {
 public:
  StoreBuilder(const WeightSource& source, const RankPlan& rank, Device& device, WeightDType dtype)
      : source_(source), rank_(rank), device_(device), dtype_(dtype) {}

  absl::Status Build();
  const std::vector<LoadTarget>& targets() const { return targets_; }
  WeightStore Take() { return std::move(store_); }

 private:
  DType HeldType(size_t tensor) const;  // of one tensor of the table
  absl::StatusOr<std::byte*> Allocate(const TensorSpec& spec, int64_t bytes);
  absl::Status AddTensor(const TensorSlice& slice);
  absl::Status AddExperts(const std::vector<TensorSlice>& slices);  // of one layer
  void AddTarget(const TensorSlice& slice, DType held, std::byte* memory, std::byte* scales = nullptr);
  void AddEmptyVocabulary();

  const WeightSource& source_;
  const RankPlan& rank_;
  Device& device_;
  const WeightDType dtype_;
  WeightStore store_;
  std::vector<LoadTarget> targets_;
};

}  // namespace fulger
