// From an encoded picture to RGB: JPEG, PNG, WebP and GIF (first frame of animations), as Pillow's
// Image.open, ImageOps.exif_transpose, convert("RGB") gives it. Alpha is dropped, not blended.
//
// Pure functions, any thread. INVALID_ARGUMENT for everything that is wrong with the bytes or over a limit.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/status.h"
#include "coordinator/image/rgb_image.h"

namespace fulger {

enum class ImageFormat : uint8_t { kJpeg, kPng, kWebp, kGif };

std::string_view FormatName(ImageFormat format);

// Decoding takes at most about 12 bytes of memory per pixel (animated WebP), usually 3 to 6.
struct ImageLimits {
  uint64_t max_bytes = uint64_t{32} << 20;   // encoded
  uint64_t max_pixels = uint64_t{64} << 20;  // height * width
  int max_side = 32768;                      // pixels
};

struct ImageHeader {
  ImageFormat format = ImageFormat::kJpeg;
  ImageSize stored;     // as encoded
  int orientation = 1;  // EXIF 1..8; 5..8 swap the sides

  // What DecodeImage returns, and what the model is told.
  ImageSize size() const {
    return orientation >= 5 ? ImageSize{.height = stored.width, .width = stored.height} : stored;
  }
};

// Reads headers and metadata only: nothing is decompressed (but a short text that may hold an orientation),
// and nothing is allocated that grows with the picture. All limits are checked here.
absl::StatusOr<ImageHeader> ProbeImage(std::string_view bytes, const ImageLimits& limits);

// Probes, then decodes. A damaged or incomplete file is an error, never part of a picture.
absl::StatusOr<RgbImage> DecodeImage(std::string_view bytes, const ImageLimits& limits);

}  // namespace fulger
