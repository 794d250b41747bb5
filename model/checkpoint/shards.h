// Which files make up a checkpoint folder. Internal to worker/weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/status.h"

namespace fulger {

struct ShardList {
  std::vector<std::string> files;                     // names within the folder, sorted
  std::map<std::string, std::string> file_of_tensor;  // from the index; empty without one
  std::string index_text;                             // empty without one
};

// NOT_FOUND names every missing shard, or says which files were looked for.
absl::StatusOr<ShardList> ListShards(const std::string& dir);

}  // namespace fulger
