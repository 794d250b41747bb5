// What the coordinator wants to know of a checkpoint's files before it starts workers.
#pragma once

#include <optional>
#include <string>

#include "base/dtype.h"
#include "base/status.h"
#include "model/config.h"
#include "model/shards/manifest.h"

namespace fulger {

struct CheckpointFacts {
  std::string fingerprint;          // of config, index, headers and file sizes; ranks compare theirs
  DType dtype = DType::kBF16;       // of most bytes, for the arithmetic
  std::optional<ShardedCopy> copy;  // where the folder is one that fulger shard has made
};

// Reads headers only, of a copy its manifest. An incomplete checkpoint is refused with the first findings; so
// is a copy whose checkpoint has changed since, unless that is allowed.
absl::StatusOr<CheckpointFacts> ReadCheckpointFacts(const std::string& dir, const ModelConfig& config,
                                                    bool allow_stale_copy);

}  // namespace fulger
