// The model that benchmarks run: about 1.5 billion parameters of random bfloat16, larger than any cache.
#pragma once

#include <string>

#include "base/status.h"

namespace fulger {

// Writes it to `dir` (3 GB) unless it is there already. The same numbers every time.
absl::Status WriteBenchCheckpoint(const std::string& dir);

}  // namespace fulger
