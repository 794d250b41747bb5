#include "coordinator/bench/picture.h"

#include <png.h>

#include <algorithm>
#include <array>
#include <vector>

#include "coordinator/bench/random.h"
#include "coordinator/cli/conversation.h"

namespace fulger::bench {
namespace {

constexpr int kShapes = 12;

std::vector<uint8_t> Pixels(int64_t width, int64_t height, uint64_t seed) {
  Random random(seed);
  std::vector<uint8_t> rgb(static_cast<size_t>(width * height * 3));
  const std::array<int64_t, 3> base = {random.Below(128), random.Below(128), random.Below(128)};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      uint8_t* pixel = &rgb[static_cast<size_t>((y * width + x) * 3)];
      pixel[0] = static_cast<uint8_t>(base[0] + x * 127 / width);
      pixel[1] = static_cast<uint8_t>(base[1] + y * 127 / height);
      pixel[2] = static_cast<uint8_t>(base[2] + (x + y) * 127 / (width + height));
    }
  }
  for (int shape = 0; shape < kShapes; ++shape) {
    const int64_t left = random.Below(width), top = random.Below(height);
    const int64_t right = std::min(width, left + 1 + random.Below(width / 3 + 1));
    const int64_t bottom = std::min(height, top + 1 + random.Below(height / 3 + 1));
    const std::array<uint8_t, 3> colour = {static_cast<uint8_t>(random.Next()),
                                           static_cast<uint8_t>(random.Next()),
                                           static_cast<uint8_t>(random.Next())};
    for (int64_t y = top; y < bottom; ++y) {
      for (int64_t x = left; x < right; ++x) {
        std::copy(colour.begin(), colour.end(), &rgb[static_cast<size_t>((y * width + x) * 3)]);
      }
    }
  }
  return rgb;
}

}  // namespace

absl::StatusOr<std::string> DrawPicture(int64_t width, int64_t height, uint64_t seed) {
  const std::vector<uint8_t> rgb = Pixels(width, height, seed);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(width);
  image.height = static_cast<png_uint_32>(height);
  image.format = PNG_FORMAT_RGB;
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  std::string png(size, '\0');
  if (png_image_write_to_memory(&image, png.data(), &size, 0, rgb.data(), 0, nullptr) == 0) {
    return Internal("picture of {} x {}: {}", width, height, image.message);
  }
  png.resize(size);
  return EncodeDataUrl("image/png", png);
}

}  // namespace fulger::bench
