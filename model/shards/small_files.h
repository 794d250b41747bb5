// What a server needs beside the weights: config, tokenizer, preprocessor, chat template. Internal to
// model/shards.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace fulger {

struct SmallFiles {
  std::vector<std::string> names;
  int64_t bytes = 0;
};

// Every file of the folder that holds no weights and no index of them, up to 64 MiB each.
absl::StatusOr<SmallFiles> FindSmallFiles(const std::string& dir);
// Each appears whole or not at all.
absl::Status CopySmallFiles(const SmallFiles& files, const std::string& from, const std::string& to);

}  // namespace fulger
