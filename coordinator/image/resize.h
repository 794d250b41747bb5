// Bicubic resizing of 8-bit RGB, bit for bit what Pillow's Image.resize(size, BICUBIC) computes: separable,
// horizontal pass first, each pass rounded to 8 bits, 22-bit fixed-point weights, antialiased when shrinking.
#pragma once

#include "coordinator/image/rgb_image.h"

namespace fulger {

// "Pillow" is every version up to 12, and 13 where it keeps that pass order: README.md.
enum class ResizeCode {
  kBest,      // the fastest for this processor
  kPortable,  // what every processor runs; the same bits, for tests
};

// `image` is not empty; `size` has positive sides. Pure, any thread.
RgbImage ResizeBicubic(const RgbImage& image, ImageSize size, ResizeCode code = ResizeCode::kBest);

}  // namespace fulger
