// Bicubic resizing of 8-bit RGB, bit for bit what Pillow's Image.resize(size, BICUBIC) computes: separable,
// horizontal pass first, each pass rounded to 8 bits, 22-bit fixed-point weights, antialiased when shrinking.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "coordinator/image/rgb_image.h"

namespace fulger {

// "Pillow" is every version up to 12, and 13 where it keeps that pass order: README.md. All give the same
// bits.
enum class ResizeCode : uint8_t {
  kPortable,
  kAvx2,
  kAvx512,  // with VNNI
};

bool CanRun(ResizeCode code);  // on this processor
ResizeCode BestResizeCode();   // the fastest that can

// `image` is not empty; `size` has positive sides; this processor can run `code`. Pure, any thread.
RgbImage ResizeBicubic(const RgbImage& image, ImageSize size, ResizeCode code = BestResizeCode());

// The same row by row, top to bottom: no resized picture is held in memory. A row lives until `take` returns.
using TakeRow = std::function<void(int y, std::span<const uint8_t> row)>;
void ResizeBicubicRows(const RgbImage& image, ImageSize size, const TakeRow& take,
                       ResizeCode code = BestResizeCode());

}  // namespace fulger
