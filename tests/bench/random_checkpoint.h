// Checkpoints of random bfloat16 weights for programs that measure: the values do not matter, the sizes do.
#pragma once

#include <string>

#include "base/status.h"

namespace fulger {

// Writes config.json and model.safetensors in the released naming, once: a folder that is complete is left as
// it is.
absl::Status WriteRandomCheckpoint(const std::string& dir, const std::string& config_json);

}  // namespace fulger
