// A decoded picture: 8-bit RGB, interleaved, rows top to bottom without padding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "coordinator/image/pixel_memory.h"
#include "model/picture/image_size.h"

namespace fulger {

struct RgbImage {
  static constexpr int kChannels = 3;

  RgbImage() = default;
  explicit RgbImage(ImageSize s) : size(s), pixels(RowBytes(s) * static_cast<size_t>(s.height)) {}

  static size_t RowBytes(ImageSize s) { return static_cast<size_t>(s.width) * kChannels; }
  std::span<uint8_t> Row(int y) {
    return std::span(pixels).subspan(static_cast<size_t>(y) * RowBytes(size), RowBytes(size));
  }
  std::span<const uint8_t> Row(int y) const {
    return std::span(pixels).subspan(static_cast<size_t>(y) * RowBytes(size), RowBytes(size));
  }

  ImageSize size;
  PixelVector pixels;  // [height, width, 3]; of a new picture: anything
};

}  // namespace fulger
