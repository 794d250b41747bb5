#include "model/picture/grid.h"

#include "coordinator/image/test_support.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;

TEST(Grid, EveryGoldenSizeOfEveryConfig) {
  const nlohmann::json golden = GoldenJson("geometry.json");
  int checked = 0;
  for (const auto& [name, cases] : golden["cases"].items()) {
    const ImageProcessorConfig config = ConfigFromGolden(golden["configs"][name]);
    for (const std::vector<int> want : cases) {
      ASSERT_OK_AND_ASSIGN(const ImageGrid g, SelectGrid({.height = want[0], .width = want[1]}, config));
      const std::vector<int> got = {g.original.height, g.original.width,     g.canvas.height,
                                    g.canvas.width,    g.fit.resized.height, g.fit.resized.width,
                                    g.fit.top,         g.fit.left,           g.patch_rows,
                                    g.patch_cols,      g.token_count()};
      ASSERT_EQ(got, want) << name;
      EXPECT_EQ(g.rows * config.tile_size, g.canvas.height);
      EXPECT_EQ(g.cols * config.tile_size, g.canvas.width);
      ++checked;
    }
  }
  EXPECT_GE(checked, 700);
}

TEST(Grid, TheDefaultCanvasesAreTheReleasedOnes) {
  const nlohmann::json golden = GoldenJson("geometry.json");
  EXPECT_EQ(DefaultImageProcessorConfig().pinpoints,
            ConfigFromGolden(golden["configs"]["released"]).pinpoints);
  EXPECT_EQ(DefaultImageProcessorConfig().pinpoints.size(), 28u);
}

// Rows of the published table, so that an error shared by the script and the code would still show.
TEST(Grid, PublishedTable) {
  const ImageProcessorConfig config = DefaultImageProcessorConfig();
  constexpr struct {
    ImageSize size;
    int tiles, tokens;
  } kRows[] = {
      {{336, 336}, 2, 1176},    {{1, 1}, 2, 1176},        {{337, 337}, 5, 2928},    {{480, 640}, 5, 2340},
      {{600, 800}, 7, 3696},    {{720, 1280}, 13, 5814},  {{768, 1024}, 13, 7560},  {{1024, 768}, 13, 7584},
      {{833, 1106}, 13, 7560},  {{1000, 1000}, 10, 5832}, {{1080, 1920}, 19, 9864}, {{1920, 1080}, 19, 9920},
      {{1600, 2560}, 16, 9000}, {{2016, 2016}, 17, 9888}, {{3000, 4000}, 13, 7560}, {{300, 2000}, 7, 3766},
      {{2000, 300}, 7, 3888},   {{50, 5000}, 7, 866},     {{2016, 1008}, 19, 11088}};
  for (const auto& row : kRows) {
    ASSERT_OK_AND_ASSIGN(const ImageGrid grid, SelectGrid(row.size, config));
    EXPECT_EQ(grid.tile_count(), row.tiles) << row.size.height << "x" << row.size.width;
    EXPECT_EQ(grid.token_count(), row.tokens) << row.size.height << "x" << row.size.width;
  }
}

// transformers' processor test: patch 16, tile 32; and its tester's 8-pixel tiles.
TEST(Grid, PublishedSmallConfigs) {
  const nlohmann::json golden = GoldenJson("geometry.json");
  const ImageProcessorConfig tile32 = ConfigFromGolden(golden["configs"]["tile32"]);
  EXPECT_EQ(SelectGrid({32, 32}, tile32)->token_count(), 10);
  EXPECT_EQ(SelectGrid({64, 32}, tile32)->token_count(), 16);
  EXPECT_EQ(SelectGrid({32, 64}, tile32)->token_count(), 14);
  const ImageProcessorConfig tile8 = ConfigFromGolden(golden["configs"]["tile8"]);
  EXPECT_EQ(SelectGrid({8, 8}, tile8)->token_count(), 10);
}

TEST(Grid, RoundedDoublesChooseTheCanvas) {
  // Exact arithmetic would take 1008 x 1680.
  ASSERT_OK_AND_ASSIGN(const ImageGrid grid, SelectGrid({1348, 1798}, DefaultImageProcessorConfig()));
  EXPECT_EQ(grid.canvas, (ImageSize{.height = 1008, .width = 1344}));
}

TEST(Grid, FloorsAndCentresOnSmallCanvases) {
  ASSERT_OK_AND_ASSIGN(const FitResult wide,
                       FitIntoCanvas({.height = 3, .width = 7}, {.height = 4, .width = 4}));
  EXPECT_EQ(wide.resized, (ImageSize{.height = 1, .width = 4}));
  EXPECT_EQ(wide.top, 1);
  EXPECT_EQ(wide.left, 0);
  ASSERT_OK_AND_ASSIGN(const FitResult tall,
                       FitIntoCanvas({.height = 7, .width = 3}, {.height = 4, .width = 4}));
  EXPECT_EQ(tall.resized, (ImageSize{.height = 4, .width = 1}));
  EXPECT_EQ(tall.top, 0);
  EXPECT_EQ(tall.left, 1);
}

TEST(Grid, RefusesShapesWhoseSideVanishes) {
  const ImageProcessorConfig config = DefaultImageProcessorConfig();
  const nlohmann::json sizes = GoldenJson("geometry.json")["refused"];
  ASSERT_GE(sizes.size(), 4u);
  for (const std::vector<int> size : sizes) {
    EXPECT_THAT(SelectGrid({.height = size[0], .width = size[1]}, config).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too long and thin")));
  }
}

TEST(Grid, RefusesEmptyAndAbsurdSizes) {
  const ImageProcessorConfig config = DefaultImageProcessorConfig();
  for (const ImageSize size :
       {ImageSize{0, 5}, ImageSize{5, 0}, ImageSize{-1, 5}, ImageSize{5, (1 << 20) + 1}}) {
    EXPECT_THAT(SelectGrid(size, config).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected sides from 1")));
  }
}

}  // namespace
}  // namespace fulger
