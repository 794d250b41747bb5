#include "coordinator/image/tiles.h"

#include "coordinator/image/test_support.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;

TEST(Tiles, EqualPillowsPipelineToTheLastBit) {
  const nlohmann::json configs = GoldenJson("geometry.json")["configs"];
  const nlohmann::json cases = GoldenJson("pixels.json")["tiles"];
  ASSERT_GE(cases.size(), 90u);
  for (const auto& c : cases) {
    const std::string what =
        c["config"].get<std::string>() + " " + c["height"].dump() + "x" + c["width"].dump();
    const RgbImage image =
        TestPicture({.height = c["height"], .width = c["width"]}, c["seed"].get<uint32_t>());
    ASSERT_OK_AND_ASSIGN(const ImageTiles tiles, MakeTiles(image, ConfigFromGolden(configs[c["config"]])));
    ASSERT_EQ(tiles.grid.tile_count(), static_cast<int>(c["tiles"].size())) << what;
    for (int t = 0; t < tiles.grid.tile_count(); ++t) {
      EXPECT_EQ(HashPixels(tiles.Tile(t)).substr(0, 16), c["tiles"][t]) << what << " tile " << t;
    }
    EXPECT_EQ(tiles.key, c["key"]) << what;
  }
}

// Hundreds of random sizes at the released tiles. A key covers every byte of all tiles.
TEST(Tiles, EqualPillowsPipelineForRandomSizes) {
  const ImageProcessorConfig released = ConfigFromGolden(GoldenJson("geometry.json")["configs"]["released"]);
  const nlohmann::json cases = GoldenJson("pixels.json")["random_released"];
  ASSERT_GE(cases.size(), 500u);
  for (const auto& c : cases) {
    const RgbImage image = TestPicture({.height = c[0], .width = c[1]}, c[2].get<uint32_t>());
    ASSERT_OK_AND_ASSIGN(const ImageTiles tiles, MakeTiles(image, released));
    EXPECT_EQ(tiles.grid.tile_count(), c[3]) << c;
    EXPECT_EQ(tiles.key.substr(0, 16), c[4]) << c;
  }
}

TEST(Tiles, TheKeyCoversPixelsAndSize) {
  const std::vector<uint8_t> pixels = {1, 2, 3};
  const std::vector<uint8_t> others = {1, 2, 4};
  const std::string key = TilesKey(pixels, {.height = 258, .width = 7});
  EXPECT_EQ(key, Sha256Hex(std::string_view("\1\2\3\2\1\0\0\7\0\0\0", 11)));
  EXPECT_NE(key, TilesKey(others, {.height = 258, .width = 7}));
  EXPECT_NE(key, TilesKey(pixels, {.height = 7, .width = 258}));
}

TEST(Tiles, KeyBytesAreTheDigits) {
  std::string key;
  for (int i = 0; i < 32; ++i) key += i % 2 == 0 ? "0f" : "a9";
  std::string bytes;
  for (int i = 0; i < 32; ++i) bytes += i % 2 == 0 ? '\x0f' : '\xa9';
  EXPECT_EQ(TilesKeyBytes(key), bytes);
}

TEST(Tiles, RefusesAVanishingSide) {
  EXPECT_THAT(MakeTiles(RgbImage({.height = 1, .width = 5000}), DefaultImageProcessorConfig()).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too long and thin")));
}

}  // namespace
}  // namespace fulger
