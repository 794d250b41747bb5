// Internal to coordinator/image: size and orientation of a picture from its container, by own bounded walks
// over the bytes. The formats' libraries are not asked, because they allocate for what a header claims.
#pragma once

#include <string_view>

#include "base/status.h"
#include "coordinator/image/decode.h"

namespace fulger {

inline constexpr std::string_view kPngSignature = "\x89PNG\r\n\x1a\n";

// Sizes are not limited here and may be zero. Each reads as far as its format puts metadata: a JPEG up to its
// first scan, the others over all chunk headers.
absl::StatusOr<ImageHeader> ReadJpegHeader(std::string_view bytes);
absl::StatusOr<ImageHeader> ReadPngHeader(std::string_view bytes);
absl::StatusOr<ImageHeader> ReadWebpHeader(std::string_view bytes);
absl::StatusOr<ImageHeader> ReadGifHeader(std::string_view bytes);

}  // namespace fulger
