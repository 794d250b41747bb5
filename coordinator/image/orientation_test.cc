#include "coordinator/image/orientation.h"

#include <gtest/gtest.h>

#include <string>

#include "coordinator/image/png_text.h"

namespace fulger {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

// 2 rows of 3: a b c / d e f, one letter for each pixel's channels.
std::string Turned(int orientation) {
  RgbImage image({.height = 2, .width = 3});
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>('a' + i / 3);
  const RgbImage out = ApplyOrientation(image, orientation);
  std::string text;
  for (int y = 0; y < out.size.height; ++y) {
    for (int x = 0; x < out.size.width; ++x)
      text += static_cast<char>(out.Row(y)[static_cast<size_t>(x) * 3 + 2]);
    text += '/';
  }
  return text;
}

TEST(Orientation, TheEightOfTheStandard) {
  EXPECT_EQ(Turned(1), "abc/def/");
  EXPECT_EQ(Turned(2), "cba/fed/");
  EXPECT_EQ(Turned(3), "fed/cba/");
  EXPECT_EQ(Turned(4), "def/abc/");
  EXPECT_EQ(Turned(5), "ad/be/cf/");
  EXPECT_EQ(Turned(6), "da/eb/fc/");
  EXPECT_EQ(Turned(7), "fc/eb/da/");
  EXPECT_EQ(Turned(8), "cf/be/ad/");
}

TEST(Orientation, TurningCrossesBlocks) {
  RgbImage image({.height = 130, .width = 70});
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i * 31 + i / 257);
  EXPECT_EQ(ApplyOrientation(ApplyOrientation(image, 6), 8).pixels, image.pixels);
  EXPECT_EQ(ApplyOrientation(ApplyOrientation(image, 5), 5).pixels, image.pixels);
  EXPECT_EQ(ApplyOrientation(ApplyOrientation(image, 7), 7).pixels, image.pixels);
  EXPECT_EQ(ApplyOrientation(image, 6).size, (ImageSize{.height = 70, .width = 130}));
}

TEST(Orientation, DamagedExifSaysNothing) {
  const std::string good("II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0", 26);
  EXPECT_EQ(ExifOrientation(good), 6);
  EXPECT_EQ(ExifOrientation("Exif\0\0"s + good), 6);
  for (size_t cut = 0; cut < 22; ++cut) {
    EXPECT_EQ(ExifOrientation(std::string_view(good).substr(0, cut)), std::nullopt) << cut;
  }
  std::string far = good;
  far[4] = far[5] = far[6] = far[7] = '\xff';  // the directory is beyond the end, and would overflow
  EXPECT_EQ(ExifOrientation(far), std::nullopt);
  std::string list = good;
  list[14] = 2;  // two values are no orientation
  EXPECT_EQ(ExifOrientation(list), 1);
  std::string text = good;
  text[12] = 2;  // ASCII
  EXPECT_EQ(ExifOrientation(text), 1);
  EXPECT_EQ(ExifOrientation("XX*\0\x08\0\0\0"sv), std::nullopt);
}

TEST(Orientation, Xmp) {
  EXPECT_EQ(XmpOrientation("<a tiff:Orientation=\"8\"/>"), 8);
  EXPECT_EQ(XmpOrientation("<tiff:Orientation>3</tiff:Orientation>"), 3);
  EXPECT_EQ(XmpOrientation("tiff:Orientation tiff:Orientation=\"x tiff:Orientation>5"), 5);
  EXPECT_EQ(XmpOrientation("tiff:Orientation=\"9\""), 1);
  EXPECT_EQ(XmpOrientation("tiff:Orientation=\""), 1);
  EXPECT_EQ(XmpOrientation(""), 1);
}

TEST(PngText, RawProfiles) {
  EXPECT_EQ(DecodeRawProfile("\nexif\n  3\n61 62\n63"), "abc");
  EXPECT_EQ(DecodeRawProfile("\nexif\n61"), "");
  EXPECT_EQ(DecodeRawProfile("\nexif\n1\n6x"), "");
}

TEST(PngText, OnlyKeysThatMatter) {
  EXPECT_FALSE(ReadPngText("tEXt", "Comment\0hello"sv));
  EXPECT_FALSE(ReadPngText("tEXt", "no zero byte"));
  EXPECT_FALSE(ReadPngText("iTXt", "XML:com.adobe.xmp\0"sv));
  EXPECT_FALSE(ReadPngText("iTXt", "XML:com.adobe.xmp\0\0\0lang"sv));
  EXPECT_EQ(ReadPngText("iTXt", "XML:com.adobe.xmp\0\0\0en\0x\0text"sv)->value, "text");
  EXPECT_EQ(ReadPngText("zTXt", "XML:com.adobe.xmp\0\0not zlib"sv)->value, "");
  EXPECT_EQ(ReadPngText("zTXt", "XML:com.adobe.xmp\0"sv)->value, "");
}

}  // namespace
}  // namespace fulger
