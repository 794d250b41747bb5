// What a folder of rank files says of itself: fulger-shards.json, written last.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/layout.h"
#include "model/shards/block_sums.h"
#include "model/shards/rank_file.h"
#include "model/shards/source_identity.h"

namespace fulger {

inline constexpr char kManifestName[] = "fulger-shards.json";
inline constexpr char kUnfinishedName[] = "fulger-shards.unfinished.json";

struct ShardManifest {
  struct Rank {
    uint64_t bytes = 0;  // of the file
    BlockSum sums{};     // of the file's block sums

    bool operator==(const Rank&) const = default;
  };

  std::string made_by;  // "fulger 0.1.0"
  Layout layout;
  std::string plan_hash;
  int64_t block_bytes = kBlockBytes;
  SourceIdentity source;
  // The checkpoint's types: that of most tensors, and the others by released name.
  DType dtype = DType::kBF16;
  std::map<std::string, DType> other_dtypes;
  std::vector<Rank> ranks;

  // By the table of the model's tensors.
  std::vector<DType> Stored(const std::vector<TensorSpec>& table) const;
};

bool IsSharded(const std::string& dir);
bool IsUnfinishedSharded(const std::string& dir);

std::string ToJson(const ShardManifest& manifest);
absl::StatusOr<ShardManifest> ParseManifest(const std::string& json);

// A folder of rank files with what its plan says of them. Reads manifest and config.json; no rank's file.
struct ShardedCopy {
  std::string dir;
  ModelConfig config;
  ShardManifest manifest;
  Plan plan;
  std::vector<TensorSpec> table;
  std::vector<DType> stored;
  std::string fingerprint;  // SHA-256 over manifest and config.json: equal where ranks see the same copy
};
// NOT_FOUND: no manifest there; says so where the copy is unfinished.
absl::StatusOr<ShardedCopy> OpenSharded(const std::string& dir);

// A rank's file, its form and its block sums checked.
absl::StatusOr<RankFile> OpenRankFile(const ShardedCopy& copy, int rank);

// FAILED_PRECONDITION unless the copy is cut as `layout` says: what it is cut for, and the ways out.
absl::Status CheckLayout(const ShardedCopy& copy, const Layout& layout);

// All files are there and as long as they must be. Reads none.
absl::Status CheckRankFilesThere(const ShardedCopy& copy);

}  // namespace fulger
