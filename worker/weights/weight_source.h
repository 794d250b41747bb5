// Where a rank's slices lie: in the files of a checkpoint, whole, or in a file of the rank's own that `fulger
// shard` has cut.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/file.h"
#include "base/status.h"
#include "model/checkpoint/checkpoint.h"
#include "model/layout.h"
#include "model/shards/block_sums.h"

namespace fulger {

// `rows` runs of `width` elements, `stride` apart, from `offset`.
struct SliceSource {
  const File* file = nullptr;
  uint64_t offset = 0;
  int64_t rows = 1;
  int64_t width = 0;
  int64_t stride = 0;
  DType stored = DType::kF32;
  // Of the slice's blocks, where it lies in one run that carries them; empty: nothing to check.
  std::span<const BlockSum> sums;
  int64_t block_bytes = 0;
};

// Immutable; any thread may use it. What it points to lives as long as it does.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  virtual const std::vector<TensorSpec>& table() const = 0;
  // The checkpoint's type of a tensor, also where it lies there as int8.
  virtual DType stored(size_t tensor) const = 0;
  // Equal on all ranks that see the same files.
  virtual const std::string& fingerprint() const = 0;
  // Whether what the plan holds as int8 (HeldAsInt8) lies there so already, with its scales.
  virtual bool int8() const = 0;
  // Of a slice that the plan gives this rank. `scales`: those of the rows of an int8 matrix, float32.
  virtual SliceSource Find(const TensorSlice& slice, bool scales = false) const = 0;
};

// Refers to the checkpoint, which must be complete and outlive it.
std::unique_ptr<WeightSource> MakeCheckpointSource(const Checkpoint& checkpoint);

// Of `dir`, whatever it holds. A copy for another layout than the plan's is refused; of a copy, only this
// rank's file needs to be there.
absl::StatusOr<std::unique_ptr<WeightSource>> OpenWeights(const std::string& dir, const ModelConfig& config,
                                                          const Plan& plan, int rank);

}  // namespace fulger
