// Writes a copy of a checkpoint that is cut for a layout: a file for each rank, the small files that a server
// needs, and at last the manifest, which makes it a copy.
//
// Each byte of the checkpoint is read once, in its order. Memory: threads times two chunks. Every
// commit_bytes what was written is brought to the disk and noted, and a later call goes on from there; files
// of ranks that are there already stay as they are. The same call after the end does nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "base/status.h"
#include "model/checkpoint/checkpoint.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/shards/manifest.h"

namespace fulger {

struct ShardProgress {
  int64_t bytes_done = 0;  // of the checkpoint, those of an earlier call included
  int64_t bytes_total = 0;
  double bytes_per_second = 0;  // of this call
  double seconds_left = 0;
};
// `before`: of an earlier call.
ShardProgress MakeShardProgress(int64_t before, int64_t now, int64_t total, double seconds);

struct ShardOptions {
  int threads = 4;
  int64_t block_bytes = kBlockBytes;
  int64_t chunk_bytes = int64_t{16} << 20;
  int64_t commit_bytes = int64_t{8} << 30;
  // Twice a second, and at the end, by the calling thread. Returning false ends the call with CANCELLED; a
  // later one goes on.
  std::function<bool(const ShardProgress&)> progress;
};

struct ShardReport {
  int ranks_written = 0;
  int ranks_kept = 0;         // were there
  uint64_t bytes = 0;         // of all ranks' files
  int64_t bytes_resumed = 0;  // of the checkpoint, done by an earlier call
  int64_t bytes_read = 0;     // by this one
  double seconds = 0;
};

struct Room {
  size_t files = 0;
  int64_t bytes = 0;  // of the rank files that are to be written
  int64_t small = 0;  // of the other files
  int64_t there = 0;  // of the rank files, on the disk already
  int64_t free = 0;
};
// RESOURCE_EXHAUSTED with the arithmetic.
absl::Status CheckRoom(const std::string& out, const Room& room);

// RESOURCE_EXHAUSTED, before anything is written: the disk has too little room, with the arithmetic.
// FAILED_PRECONDITION: `out` holds a copy of another checkpoint, or for another layout. An incomplete
// checkpoint is refused.
absl::StatusOr<ShardReport> WriteShards(const Checkpoint& checkpoint, const Plan& plan,
                                        const std::string& out, const ShardOptions& options);

}  // namespace fulger
