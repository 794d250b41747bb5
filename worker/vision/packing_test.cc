// Literal packings of small grids, the totals of the worked table of picture sizes, and the order of rows
// that transformers' LLaVA-NeXT packs the same sizes and hundreds of random ones in
// (tests/golden/image/make_image_goldens.py).
#include "worker/vision/packing.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <span>

#include "base/file.h"
#include "base/sha256.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

// Tiles of 2x2 patches: tile t has feature rows 4t .. 4t+3.
ImageProcessorConfig SmallTiles() {
  ImageProcessorConfig config = DefaultImageProcessorConfig();
  config.tile_size = 4;
  config.patch_size = 2;
  config.pinpoints = {{4, 4}, {4, 8}, {8, 4}, {8, 8}};
  return config;
}

std::vector<int32_t> Pack(ImageSize size) {
  const auto grid = SelectGrid(size, SmallTiles());
  EXPECT_TRUE(grid.ok()) << grid.status();
  return PackingIndex(*grid, [](int64_t tile) { return 4 * tile; });
}

TEST(Packing, ThumbnailThenRowsWithNewlines) {
  EXPECT_EQ(Pack({4, 4}), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, -1, 6, 7, -1}));
}

TEST(Packing, RowsRunAcrossTiles) {
  EXPECT_EQ(Pack({4, 8}), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, 8, 9, -1, 6, 7, 10, 11, -1}));
  EXPECT_EQ(Pack({8, 4}), (std::vector<int32_t>{0, 1, 2, 3, 4, 5, -1, 6, 7, -1, 8, 9, -1, 10, 11, -1}));
}

TEST(Packing, PaddingRowsAreLeftOut) {
  // A picture of 2x8 lies on the 4x8 canvas (2x4 patches): one row of patches is covered, and half a row of
  // padding rounds to none.
  EXPECT_EQ(Pack({2, 8}).size(), 4 + 2 * 5);
  // 5x8 lies on 8x8 (4x4 patches): two rows are covered, one above and one below is padding.
  EXPECT_EQ(Pack({5, 8}), (std::vector<int32_t>{0, 1, 2, 3, 6, 7, 10, 11, -1, 12, 13, 16, 17, -1}));
}

TEST(Packing, TilesMayLieAnywhere) {
  const auto grid = SelectGrid({4, 4}, SmallTiles());
  ASSERT_OK(grid.status());
  EXPECT_EQ(PackingIndex(*grid, [](int64_t tile) { return tile == 0 ? 100 : 200; }),
            (std::vector<int32_t>{100, 101, 102, 103, 200, 201, -1, 202, 203, -1}));
}

nlohmann::json GoldenJson(const std::string& name) {
  return nlohmann::json::parse(ReadFile("tests/golden/image/" + name).value_or("{}"));
}

TEST(Packing, TheOrderIsTransformersOwn) {
  const nlohmann::json configs = GoldenJson("geometry.json")["configs"];
  const nlohmann::json cases = GoldenJson("packing.json");
  std::map<std::string, int> checked;
  for (const auto& [name, rows] : cases.items()) {
    ImageProcessorConfig config = DefaultImageProcessorConfig();
    config.tile_size = configs[name]["tile"];
    config.patch_size = configs[name]["patch"];
    config.pinpoints.clear();
    for (const auto& pair : configs[name]["pinpoints"]) {
      config.pinpoints.push_back({.height = pair[0], .width = pair[1]});
    }
    const int64_t patches =
        int64_t{config.tile_size / config.patch_size} * (config.tile_size / config.patch_size);
    for (const auto& row : rows) {
      ASSERT_OK_AND_ASSIGN(const ImageGrid grid, SelectGrid({.height = row[0], .width = row[1]}, config));
      const std::vector<int32_t> index = PackingIndex(grid, [&](int64_t tile) { return tile * patches; });
      EXPECT_EQ(index.size(), row[2]) << name << " " << row;
      Sha256 hash;
      hash.Update(std::as_bytes(std::span(index)));
      EXPECT_EQ(hash.HexDigest().substr(0, 16), row[3]) << name << " " << row;
      ++checked[name];
    }
  }
  EXPECT_GE(checked["released"], 520) << "the table's sizes and 500 others";
  EXPECT_EQ(checked.size(), 5U);
}

TEST(Packing, ReleasedSizes) {
  const ImageProcessorConfig released = DefaultImageProcessorConfig();
  const std::vector<std::pair<ImageSize, size_t>> table = {
      {{336, 336}, 1176}, {{480, 640}, 2340}, {{1080, 1920}, 9864}, {{2000, 300}, 3888}, {{50, 5000}, 866}};
  for (const auto& [size, tokens] : table) {
    const auto grid = SelectGrid(size, released);
    ASSERT_OK(grid.status());
    EXPECT_EQ(PackingIndex(*grid, [](int64_t tile) { return 576 * tile; }).size(), tokens)
        << size.height << "x" << size.width;
  }
}

}  // namespace
}  // namespace fulger
