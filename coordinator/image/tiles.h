// A picture as the model's vision tower takes it: square 8-bit tiles, and the key under which their features
// are kept.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/image/rgb_image.h"
#include "model/picture/grid.h"
#include "model/picture/processor_config.h"

namespace fulger {

struct ImageTiles {
  ImageGrid grid;  // grid.original is the (h, w) that travels with the tiles
  int tile_size = 0;
  // [grid.tile_count(), tile_size, tile_size, 3]: the thumbnail (whole picture, aspect not kept), then the
  // canvas row by row. Not normalised: a worker does that.
  std::vector<uint8_t> pixels;
  std::string key;  // see TilesKey

  std::span<const uint8_t> Tile(int index) const {
    const size_t bytes = static_cast<size_t>(tile_size) * tile_size * RgbImage::kChannels;
    return std::span(pixels).subspan(static_cast<size_t>(index) * bytes, bytes);
  }
};

// SHA-256 as 64 lower-case hexadecimal digits, over: `pixels`, then the original height, then the original
// width, each as 4 bytes little-endian. The original size belongs in it because the token count depends on
// it.
std::string TilesKey(std::span<const uint8_t> pixels, ImageSize original);

// The same key as the 32 bytes that travel to workers. `key` is one that TilesKey made.
std::string TilesKeyBytes(std::string_view key);

// INVALID_ARGUMENT for shapes that SelectGrid refuses. Pure, any thread; costs tens of milliseconds for a
// photograph.
absl::StatusOr<ImageTiles> MakeTiles(const RgbImage& image, const ImageProcessorConfig& config);

}  // namespace fulger
