#include "coordinator/image/resize.h"

#include <algorithm>
#include <cstdio>

#include "coordinator/image/test_support.h"

namespace fulger {
namespace {

// Those that this processor can run; says which it cannot.
std::vector<ResizeCode> Codes() {
  std::vector<ResizeCode> codes;
  for (const ResizeCode code : {ResizeCode::kPortable, ResizeCode::kAvx2, ResizeCode::kAvx512}) {
    if (CanRun(code)) {
      codes.push_back(code);
    } else {
      std::printf("NOT TESTED: this processor cannot run resize code %d\n", static_cast<int>(code));
    }
  }
  return codes;
}

TEST(Resize, ThePictureFormulaIsTheScripts) {
  const RgbImage image = TestPicture({.height = 40, .width = 30}, 5);
  EXPECT_EQ(HashPixels(image.pixels), GoldenJson("pixels.json")["picture_40x30_seed5"]);
}

TEST(Resize, EqualsPillowToTheLastBit) {
  const nlohmann::json cases = GoldenJson("pixels.json")["resizes"];
  ASSERT_GE(cases.size(), 70u);
  for (const auto& c : cases) {
    const RgbImage image = TestPicture({.height = c[0], .width = c[1]}, c[2].get<uint32_t>());
    const ImageSize to = {.height = c[3], .width = c[4]};
    for (const ResizeCode code : Codes()) {
      const RgbImage resized = ResizeBicubic(image, to, code);
      EXPECT_EQ(resized.size, to);
      EXPECT_EQ(HashPixels(resized.pixels), c[5]) << c << " code " << static_cast<int>(code);
    }
  }
}

// Wrong lobes or a lost clamp show as colours outside of a constant picture's.
TEST(Resize, AConstantPictureStaysConstant) {
  for (const uint8_t value : std::vector<uint8_t>{0, 1, 127, 254, 255}) {
    RgbImage image({.height = 37, .width = 53});
    std::ranges::fill(image.pixels, value);
    for (const ResizeCode code : Codes()) {
      for (const uint8_t pixel : ResizeBicubic(image, {.height = 90, .width = 20}, code).pixels)
        ASSERT_EQ(pixel, value);
    }
  }
}

}  // namespace
}  // namespace fulger
