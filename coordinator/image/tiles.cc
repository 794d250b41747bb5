#include "coordinator/image/tiles.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"
#include "base/sha256.h"
#include "coordinator/image/pixel_memory.h"
#include "coordinator/image/resize.h"

namespace fulger {
namespace {

std::array<std::byte, 4> LittleEndian(int value) {
  std::array<std::byte, 4> out;
  for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>((value >> (8 * i)) & 0xff);
  return out;
}

// Copies a row of the resized picture to its place on the canvas, straight into the tiles; what the picture
// does not reach stays black.
void CutRow(int y, std::span<const uint8_t> row, ImageTiles& tiles) {
  const ImageGrid& grid = tiles.grid;
  const int side = tiles.tile_size;
  const int canvas_y = grid.fit.top + y;
  for (int x = 0; x < grid.fit.resized.width;) {
    const int canvas_x = grid.fit.left + x;
    const int run = std::min(grid.fit.resized.width - x, side - canvas_x % side);
    const int tile = 1 + (canvas_y / side) * grid.cols + canvas_x / side;
    const size_t offset =
        ((static_cast<size_t>(tile) * side + canvas_y % side) * side + canvas_x % side) * RgbImage::kChannels;
    std::memcpy(tiles.pixels.data() + offset, row.data() + static_cast<size_t>(x) * RgbImage::kChannels,
                static_cast<size_t>(run) * RgbImage::kChannels);
    x += run;
  }
}

}  // namespace

std::string TilesKey(std::span<const uint8_t> pixels, ImageSize original) {
  Sha256 hash;
  hash.Update(std::as_bytes(pixels));
  hash.Update(LittleEndian(original.height));
  hash.Update(LittleEndian(original.width));
  return hash.HexDigest();
}

std::string TilesKeyBytes(std::string_view key) {
  constexpr size_t kDigits = 64;
  FULGER_CHECK(key.size() == kDigits, "key of {} digits", key.size());
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
  std::string out;
  for (size_t i = 0; i < key.size(); i += 2)
    out.push_back(static_cast<char>(digit(key[i]) << 4 | digit(key[i + 1])));
  return out;
}

absl::StatusOr<ImageTiles> MakeTiles(const RgbImage& image, const ImageProcessorConfig& config) {
  ImageTiles tiles;
  ASSIGN_OR_RETURN(tiles.grid, SelectGrid(image.size, config));
  tiles.tile_size = config.tile_size;
  const size_t tile_bytes = static_cast<size_t>(config.tile_size) * config.tile_size * RgbImage::kChannels;
  const size_t bytes = tile_bytes * static_cast<size_t>(tiles.grid.tile_count());
  tiles.pixels.reserve(bytes);
  AdviseHugePages(tiles.pixels.data(), bytes);
  tiles.pixels.resize(bytes);
  const ImageSize tile = {.height = config.tile_size, .width = config.tile_size};
  ResizeBicubicRows(image, tile, [&](int y, std::span<const uint8_t> row) {
    std::ranges::copy(row, tiles.pixels.begin() + static_cast<ptrdiff_t>(row.size()) * y);
  });
  ResizeBicubicRows(image, tiles.grid.fit.resized,
                    [&](int y, std::span<const uint8_t> row) { CutRow(y, row, tiles); });
  tiles.key = TilesKey(tiles.pixels, image.size);
  return tiles;
}

}  // namespace fulger
