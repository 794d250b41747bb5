// Internal to coordinator/image: pixels of one picture by its format's library. The header was read and
// limited before (header.h); a decoder whose own size differs from `stored` refuses the file.
#pragma once

#include <string_view>

#include "base/status.h"
#include "coordinator/image/rgb_image.h"

namespace fulger {

absl::StatusOr<RgbImage> DecodeJpeg(std::string_view bytes, ImageSize stored);
absl::StatusOr<RgbImage> DecodePng(std::string_view bytes, ImageSize stored);
absl::StatusOr<RgbImage> DecodeWebp(std::string_view bytes, ImageSize stored);
absl::StatusOr<RgbImage> DecodeGif(std::string_view bytes, ImageSize stored);

}  // namespace fulger
