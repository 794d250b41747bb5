// Reads a rank's share of a checkpoint into device memory: only the bytes that its plan names, with several
// threads, in pieces of a few MB, without mmap.
//
// Row cuts are contiguous in the file. Column cuts (out_proj, o_proj, w2) are read row by row; where the rows
// are short or the cut is at least half of each row, whole rows are read into a bounded buffer and the cut is
// copied out, because skipping would cost more than reading. Loading with ep = tp has no cut experts at all.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "base/status.h"
#include "kernels/device/device.h"
#include "model/checkpoint/checkpoint.h"
#include "model/layout.h"
#include "worker/weights/weight_source.h"
#include "worker/weights/weight_store.h"

namespace fulger {

enum class WeightDType : uint8_t {
  kKeep,  // F32 and BF16 as stored; F16 becomes F32
  kF32,   // everything as F32: the exact mode of goldens, twice the memory
};

struct LoadProgress {
  int64_t bytes_done = 0;  // of the checkpoint, in use
  int64_t bytes_total = 0;
  double bytes_per_second = 0;  // since the start
  double fraction() const {
    return bytes_total == 0 ? 1.0 : static_cast<double>(bytes_done) / static_cast<double>(bytes_total);
  }
};

struct LoadOptions {
  int threads = 4;  // readers; storage wants several requests at once
  WeightDType dtype = WeightDType::kKeep;
  bool reject_non_finite = false;  // a NaN or infinity is DATA_LOSS naming the tensor and the element
  // Called by the loading thread about every percent, and twice a second while nothing arrives, at last with
  // fraction
  // 1. Returning false abandons the load with CANCELLED.
  std::function<bool(const LoadProgress&)> progress;
  bool verify = true;  // blocks that carry checksums; without: to measure what it costs
  // int8 matrices whose columns are cut: takes the largest magnitudes of the rows of this rank's part of
  // `matrix` and leaves the maxima over all ranks that share it, on each of them (see MakeRowMaximum). Called
  // by the loading thread, in the same order on all of them.
  std::function<absl::Status(const TensorSpec& matrix, std::span<float>)> reduce_row_maxima;
  int64_t piece_bytes = int64_t{4} << 20;  // of one read; of a file with checksums, one block
  int64_t gap_bytes = 4096;                // columns skipped per row that are cheaper to read than to skip
};

struct LoadStats {
  ComponentBytes used{};   // of the checkpoint: the plan's bytes in the checkpoint's element types
  int64_t bytes_used = 0;  // all components
  // The same plus columns read and thrown away: between two rows of a column cut at most as many bytes as the
  // cut has in a row, or gap_bytes, whichever is more.
  int64_t bytes_read = 0;
  int64_t bytes_verified = 0;  // of those: by checksums
  double seconds = 0;
};

// "115.2 GB read in 43.1 s, 2.67 GB/s, 115.2 GB of it checked by checksums"
std::string ToString(const LoadStats& stats);

// The first error of any reader stops all of them and is returned with tensor and file. `device` is used by
// the calling thread alone; readers write directly into host-accessible memory.
absl::StatusOr<WeightStore> LoadWeights(const WeightSource& source, const RankPlan& rank, Device& device,
                                        const LoadOptions& options, LoadStats* stats = nullptr);
// Refuses an incomplete checkpoint, naming what is missing.
absl::StatusOr<WeightStore> LoadWeights(const Checkpoint& checkpoint, const RankPlan& rank, Device& device,
                                        const LoadOptions& options, LoadStats* stats = nullptr);

}  // namespace fulger
