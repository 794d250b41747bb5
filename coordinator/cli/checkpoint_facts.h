// What the coordinator wants to know of a checkpoint's files before it starts workers.
#pragma once

#include <string>

#include "base/dtype.h"
#include "base/status.h"
#include "model/config.h"

namespace fulger {

struct CheckpointFacts {
  std::string fingerprint;     // of config, index, headers and file sizes; ranks compare theirs
  DType dtype = DType::kBF16;  // of most bytes, for the arithmetic
};

// Reads headers only. An incomplete checkpoint is refused with the first findings.
absl::StatusOr<CheckpointFacts> ReadCheckpointFacts(const std::string& dir, const ModelConfig& config);

}  // namespace fulger
