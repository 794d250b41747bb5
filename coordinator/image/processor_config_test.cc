#include "model/picture/processor_config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kLegacy = R"({
  "size": [336, 336], "patch_size": 14, "process_image_mode": "anyres",
  "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
  "image_grid_pinpoints": [[336, 336], [336, 672], [672, 336]], "auto_map": {"AutoImageProcessor": "x.Y"}})";

constexpr std::string_view kNative = R"({
  "size": {"height": 24, "width": 24}, "patch_size": 4, "resample": 3, "do_resize": true, "do_rescale": true,
  "do_normalize": true, "do_convert_rgb": true, "do_center_crop": false, "do_pad": false,
  "rescale_factor": 0.00392156862745098, "image_mean": [0.5, 0.25, 0], "image_std": [1, 0.5, 0.25],
  "image_grid_pinpoints": [[24, 48], [48, 24]], "image_processor_type": "MiniMaxVL01ImageProcessor"})";

TEST(ProcessorConfig, ReadsTheLegacySpelling) {
  ASSERT_OK_AND_ASSIGN(const ImageProcessorConfig config, ParseImageProcessorConfig(kLegacy, "p.json"));
  EXPECT_EQ(config.tile_size, 336);
  EXPECT_EQ(config.patch_size, 14);
  EXPECT_EQ(config.patches_per_side(), 24);
  EXPECT_THAT(config.pinpoints, ElementsAre(ImageSize{336, 336}, ImageSize{336, 672}, ImageSize{672, 336}));
  EXPECT_EQ(config.mean, DefaultImageProcessorConfig().mean);
  EXPECT_EQ(config.std, DefaultImageProcessorConfig().std);
  EXPECT_EQ(config.source, "p.json");
}

TEST(ProcessorConfig, ReadsTheNativeSpelling) {
  ASSERT_OK_AND_ASSIGN(const ImageProcessorConfig config, ParseImageProcessorConfig(kNative, "p.json"));
  EXPECT_EQ(config.tile_size, 24);
  EXPECT_EQ(config.patch_size, 4);
  EXPECT_THAT(config.pinpoints,
              ElementsAre(ImageSize{.height = 24, .width = 48}, ImageSize{.height = 48, .width = 24}));
  EXPECT_THAT(config.mean, ElementsAre(0.5, 0.25, 0.0));
  EXPECT_THAT(config.std, ElementsAre(1.0, 0.5, 0.25));
}

TEST(ProcessorConfig, AbsentKeysKeepTheReleasedValues) {
  ASSERT_OK_AND_ASSIGN(const ImageProcessorConfig config,
                       ParseImageProcessorConfig("{\"patch_size\": null}", "p.json"));
  EXPECT_EQ(config.tile_size, 336);
  EXPECT_EQ(config.pinpoints, DefaultImageProcessorConfig().pinpoints);
}

TEST(ProcessorConfig, RefusesWhatItDoesNotDo) {
  constexpr struct {
    std::string_view json, message;
  } kBad[] = {
      {"[]", "expected a JSON object"},
      {"{", "not valid JSON"},
      {R"({"process_image_mode": "keepratio_resize"})",
       "only \"anyres\" is supported, found \"keepratio_resize\""},
      {R"({"process_image_mode": "resize"})", "process_image_mode"},
      {R"({"process_image_mode": 3})", "process_image_mode"},
      {R"({"size": {"shortest_edge": 336}})", "size: expected {height, width}"},
      {R"({"size": [336]})", "size: expected {height, width}"},
      {R"({"size": [336, 224]})", "tiles must be square, found height 224 and width 336"},
      {R"({"size": [0, 0]})", "size height"},
      {R"({"size": [336.5, 336.5]})", "found 336.5"},
      {R"({"patch_size": 13})", "expected a divisor of the tile size 336, found 13"},
      {R"({"patch_size": -14})", "patch_size"},
      {R"({"size": [24, 24], "patch_size": 4})", "required with tile size 24"},
      {R"({"image_mean": [0.1, 0.2]})", "image_mean: expected 3 numbers"},
      {R"({"image_std": [0.1, 0, 0.2]})", "image_std[1]: expected a finite positive number, found 0"},
      {R"({"image_std": [0.1, "x", 0.2]})", "image_std[1]"},
      {R"({"image_grid_pinpoints": []})", "image_grid_pinpoints: expected a list"},
      {R"({"image_grid_pinpoints": [[336, 336], [336]]})",
       "image_grid_pinpoints[1]: expected [height, width]"},
      {R"({"image_grid_pinpoints": [[336, 500]]})",
       "expected multiples of the tile size 336, found [336,500]"},
      {R"({"image_grid_pinpoints": [[336, 0]]})", "image_grid_pinpoints[0]"},
      {R"({"image_grid_pinpoints": [[33600, 33600]]})", "10000 tiles, at most 1024"},
      {R"({"resample": 2})", "resample: only 3 (bicubic)"},
      {R"({"do_normalize": false})", "do_normalize: only true is supported, found false"},
      {R"({"do_center_crop": true})", "do_center_crop"},
      {R"({"rescale_factor": 1.0})", "rescale_factor: only 1/255"},
  };
  for (const auto& bad : kBad) {
    EXPECT_THAT(ParseImageProcessorConfig(bad.json, "p.json").status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         testing::AllOf(HasSubstr("p.json: "), HasSubstr(std::string(bad.message)))))
        << bad.json;
  }
}

TEST(ProcessorConfig, LoadsFromACheckpointAndSaysWhenTheFileIsAbsent) {
  std::string dir = (std::filesystem::temp_directory_path() / "fulger_image_XXXXXX").string();
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  ASSERT_OK_AND_ASSIGN(const ImageProcessorConfig absent, LoadImageProcessorConfig(dir));
  EXPECT_THAT(absent.source, HasSubstr("does not exist"));
  EXPECT_EQ(absent.pinpoints.size(), 28u);
  std::ofstream(dir + "/preprocessor_config.json") << kNative;
  ASSERT_OK_AND_ASSIGN(const ImageProcessorConfig present, LoadImageProcessorConfig(dir));
  EXPECT_EQ(present.tile_size, 24);
  EXPECT_THAT(present.source, HasSubstr("preprocessor_config.json"));
  std::filesystem::remove_all(dir);
}

TEST(ProcessorConfig, MustMatchTheVisionTower) {
  const ImageProcessorConfig config = DefaultImageProcessorConfig();
  EXPECT_OK(CheckMatchesVisionTower(config, 336, 14));
  EXPECT_THAT(CheckMatchesVisionTower(config, 224, 14),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("vision_config expects 224 and 14")));
}

}  // namespace
}  // namespace fulger
