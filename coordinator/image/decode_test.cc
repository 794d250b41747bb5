#include "coordinator/image/decode.h"

#include <algorithm>
#include <map>

#include "coordinator/image/test_support.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

// Lossy formats leave the rounding of colour conversion to the decoder; releases of one library agree, others
// may not.
constexpr int kLossyTolerance = 1;

int MaxDifference(std::span<const uint8_t> a, std::string_view b) {
  int most = 0;
  for (size_t i = 0; i < a.size(); ++i) most = std::max(most, std::abs(a[i] - static_cast<uint8_t>(b[i])));
  return most;
}

TEST(Decode, EveryFileAsPillowReadsIt) {
  const nlohmann::json cases = GoldenJson("codecs.json")["cases"];
  ASSERT_GE(cases.size(), 85u);
  std::map<ImageFormat, int> seen;
  for (const auto& c : cases) {
    const std::string file = c["file"];
    const std::string bytes = ReadGolden("files/" + file);
    const ImageSize want = {.height = c["height"], .width = c["width"]};
    const absl::StatusOr<ImageHeader> header = ProbeImage(bytes, ImageLimits());
    ASSERT_TRUE(header.ok()) << file << ": " << header.status();
    EXPECT_EQ(header->size(), want) << file;
    const absl::StatusOr<RgbImage> image = DecodeImage(bytes, ImageLimits());
    ASSERT_TRUE(image.ok()) << file << ": " << image.status();
    ASSERT_EQ(image->size, want) << file;
    if (HashPixels(image->pixels) != c["sha256"]) {
      ASSERT_TRUE(c["lossy"]) << file << ": lossless, and differs from Pillow";
      const std::string pixels = ReadGolden("files/" + file + ".rgb");
      ASSERT_EQ(pixels.size(), image->pixels.size()) << file;
      const int difference = MaxDifference(image->pixels, pixels);
      std::cerr << file << ": at most " << difference << " from Pillow's decoder\n";
      EXPECT_LE(difference, kLossyTolerance) << file;
    }
    ++seen[header->format];
  }
  EXPECT_GE(seen[ImageFormat::kJpeg], 25);
  EXPECT_GE(seen[ImageFormat::kPng], 30);
  EXPECT_GE(seen[ImageFormat::kWebp], 8);
  EXPECT_GE(seen[ImageFormat::kGif], 10);
}

TEST(Decode, TheProbeKnowsHowThePictureIsStored) {
  const std::string bytes = ReadGolden("files/exif6.jpg");
  ASSERT_OK_AND_ASSIGN(const ImageHeader header, ProbeImage(bytes, ImageLimits()));
  EXPECT_EQ(header.format, ImageFormat::kJpeg);
  EXPECT_EQ(header.stored, (ImageSize{.height = 8, .width = 16}));
  EXPECT_EQ(header.orientation, 6);
  EXPECT_EQ(header.size(), (ImageSize{.height = 16, .width = 8}));
}

}  // namespace
}  // namespace fulger
