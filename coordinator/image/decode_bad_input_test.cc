// Damaged, hostile and foreign files: always a status that says what is wrong, never a crash or part of a
// picture.
#include <cstdlib>

#include "coordinator/image/decode.h"
#include "coordinator/image/test_support.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;

absl::Status DecodeStatus(std::string_view bytes, const ImageLimits& limits = {}) {
  return DecodeImage(bytes, limits).status();
}

auto Refused(const std::string& text) {
  return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(text));
}

// Big-endian 32 bits at `at`.
void Put32(std::string& bytes, size_t at, uint32_t value) {
  for (size_t i = 0; i < 4; ++i) bytes[at + i] = static_cast<char>(value >> (24 - 8 * i));
}

TEST(BadInput, NotAnImage) {
  EXPECT_THAT(DecodeStatus(""), Refused("image: empty"));
  EXPECT_THAT(
      DecodeStatus("<html><body>404</body>"),
      Refused("22 bytes that begin with 3c 68 74 6d 6c 3e 3c 62 6f 64 79 3e \"<html><body>\" are not"));
  EXPECT_THAT(DecodeStatus("\0\0\0\x18"s + "ftypheic"), Refused("\"....ftypheic\""));
  EXPECT_THAT(DecodeStatus("x"), Refused("1 bytes"));
  EXPECT_THAT(DecodeStatus("RIFF\x04\0\0\0WAVE"s), Refused("are not JPEG, PNG, WebP or GIF"));
}

TEST(BadInput, HeadersAlone) {
  EXPECT_THAT(DecodeStatus("\xff\xd8\xff"), Refused("JPEG: truncated before its first scan"));
  EXPECT_THAT(DecodeStatus("\xff\xd8\xff\xd9"), Refused("JPEG: ends before its first scan"));
  EXPECT_THAT(DecodeStatus("\xff\xd8\xff\xe0\0\x01"s), Refused("segment ffe0 at byte 4 has length 1"));
  EXPECT_THAT(DecodeStatus("\xff\xd8\xff\xda\0\x02"s), Refused("no frame header"));
  EXPECT_THAT(DecodeStatus("\x89PNG\r\n\x1a\n"), Refused("PNG: truncated"));
  EXPECT_THAT(DecodeStatus("GIF89a"), Refused("GIF: truncated"));
  EXPECT_THAT(DecodeStatus("GIF89a\1\0\1\0\0\0\0;"s),
              Refused("GIF: expected a picture at byte 13, found block 0x3b"));
  EXPECT_THAT(DecodeStatus("RIFF\xff\xff\0\0WEBP"s), Refused("WebP: truncated"));
}

// Every proper prefix of a still picture lacks something, down to the end marker. Animations may be cut
// behind their first frame, and bytes that follow a picture may go missing.
TEST(BadInput, EveryCutIsNoticed) {
  for (const char* file :
       {"baseline_420.jpg", "progressive_422.jpg", "cmyk.jpg", "restarts.jpg", "rgb16.png",
        "rgb_interlaced.png", "palette8.png", "lossy.webp", "lossless_alpha.webp", "no_palette.gif"}) {
    const std::string whole = ReadGolden("files/"s + file);
    ASSERT_OK(DecodeStatus(whole));
    const size_t needed = std::string_view(file).ends_with(".gif") ? whole.size() - 1 : whole.size();
    for (size_t size = 0; size < needed; ++size) {
      const absl::Status status = DecodeStatus(std::string_view(whole).substr(0, size));
      ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << file << " cut to " << size << " bytes";
    }
  }
  const std::string jpeg = ReadGolden("files/baseline_444.jpg");
  EXPECT_THAT(DecodeStatus(jpeg.substr(0, jpeg.size() / 2)), Refused("JPEG: damaged or truncated"));
}

// Any byte changed: an error or a picture of the announced size. Sanitizer builds give this test its teeth.
TEST(BadInput, AnyFlippedByteIsSurvived) {
  ImageLimits limits;
  limits.max_pixels = 1 << 20;
  const nlohmann::json cases = GoldenJson("codecs.json")["cases"];
  ASSERT_GE(cases.size(), 85u);
  for (const auto& c : cases) {
    std::string bytes = ReadGolden("files/" + c["file"].get<std::string>());
    const size_t step = bytes.size() / 150 + 1;
    for (size_t at = 0; at < bytes.size(); at += at < 64 ? 1 : step) {
      const char old = bytes[at];
      for (const char mask : {'\x01', '\x80', '\xff'}) {
        bytes[at] = static_cast<char>(old ^ mask);
        const absl::StatusOr<ImageHeader> header = ProbeImage(bytes, limits);
        const absl::StatusOr<RgbImage> image = DecodeImage(bytes, limits);
        if (image.ok()) {
          ASSERT_TRUE(header.ok());
          ASSERT_EQ(image->size, header->size()) << c["file"] << " byte " << at;
        }
      }
      bytes[at] = old;
    }
  }
}

TEST(BadInput, ABombIsRefusedFromItsHeader) {
  std::string png = ReadGolden("files/rgb.png");
  Put32(png, 16, 60000);
  Put32(png, 20, 60000);
  EXPECT_THAT(ProbeImage(png, ImageLimits()).status(),
              Refused("60000x60000 pixels (height x width), the limit for a side"));
  ImageLimits wide;
  wide.max_side = 100000;
  EXPECT_THAT(ProbeImage(png, wide).status(), Refused("= 3600000000 pixels, the limit is 67108864"));
  Put32(png, 16, 0xffffffff);
  EXPECT_THAT(ProbeImage(png, wide).status(), Refused("60000x2147483647"));
}

TEST(BadInput, ZeroSizesAreRefused) {
  std::string png = ReadGolden("files/rgb.png");
  Put32(png, 16, 0);
  EXPECT_THAT(DecodeStatus(png), Refused("PNG: the header says 29x0 pixels"));
  std::string jpeg = ReadGolden("files/gray.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  jpeg[frame + 5] = jpeg[frame + 6] = 0;
  EXPECT_THAT(DecodeStatus(jpeg), Refused("JPEG: the header says 0x37 pixels"));
}

TEST(BadInput, LimitsAreInclusive) {
  const std::string png = ReadGolden("files/rgb.png");
  ImageLimits limits = {.max_bytes = png.size(), .max_pixels = 29 * 37, .max_side = 37};
  EXPECT_OK(DecodeStatus(png, limits));
  limits.max_side = 36;
  EXPECT_THAT(DecodeStatus(png, limits), Refused("the limit for a side is 36"));
  limits = {.max_pixels = 29 * 37 - 1};
  EXPECT_THAT(DecodeStatus(png, limits), Refused("29x37 = 1073 pixels, the limit is 1072"));
  limits = {.max_bytes = png.size() - 1};
  EXPECT_THAT(DecodeStatus(png, limits), Refused("the limit is " + std::to_string(png.size() - 1)));
}

TEST(BadInput, DamagedPngChunks) {
  const std::string good = ReadGolden("files/gamma_and_profile.png");
  for (const char* chunk : {"IHDR", "gAMA", "IDAT", "IEND"}) {
    std::string bad = good;
    const size_t at = bad.find(chunk);
    ASSERT_NE(at, std::string::npos);
    uint8_t length = static_cast<uint8_t>(bad[at - 1]);
    if (std::string_view(chunk) == "IDAT") length = 4;  // inside of the compressed data
    bad[at + 4 + length] = static_cast<char>(bad[at + 4 + length] ^ 1);
    EXPECT_EQ(DecodeStatus(bad).code(), absl::StatusCode::kInvalidArgument) << chunk;
  }
  std::string no_header = good;
  no_header[12] = 'J';
  EXPECT_THAT(DecodeStatus(no_header), Refused("begins with chunk \"JHDR\" of 13 bytes, expected IHDR"));
  std::string too_long = good;
  Put32(too_long, too_long.find("IDAT") - 4, 0xfffffff0);
  EXPECT_THAT(DecodeStatus(too_long),
              AllOf(Refused("PNG: truncated, chunk IDAT"), Refused("4294967292 bytes")));
}

// The second one may be shorter than a header is.
TEST(BadInput, SecondPngHeader) {
  std::string png = ReadGolden("files/gamma_and_profile.png");
  png.insert(33, std::string("\0\0\0\0IHDR\0\0\0\0", 12));
  EXPECT_THAT(DecodeStatus(png), Refused("a second IHDR"));
}

TEST(BadInput, TwoFrameHeadersThatDisagree) {
  std::string jpeg = ReadGolden("files/gray.jpg");
  const size_t frame = jpeg.find("\xff\xc0");
  std::string second = jpeg.substr(frame, 13);
  second[5] = 0x7f;  // 32512 rows or more
  jpeg.insert(frame + 13, second);
  EXPECT_EQ(DecodeStatus(jpeg).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace fulger
