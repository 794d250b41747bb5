// Reads every byte of a copy, and says what is damaged.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/shards/manifest.h"
#include "model/shards/shard_writer.h"

namespace fulger {

struct VerifyReport {
  uint64_t bytes = 0;
  double seconds = 0;
  std::vector<std::string> damage;  // one line for each rank's file that has some; empty: none
};

// Of the options: threads and progress.
absl::StatusOr<VerifyReport> VerifyShards(const ShardedCopy& copy, const ShardOptions& options);

}  // namespace fulger
