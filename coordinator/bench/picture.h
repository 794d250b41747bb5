// Pictures that need no files: shapes on a gradient, as PNG.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace fulger::bench {

// "data:image/png;base64,...". The same seed draws the same picture.
absl::StatusOr<std::string> DrawPicture(int64_t width, int64_t height, uint64_t seed);

}  // namespace fulger::bench
