// Built with -ffp-contract=off: the canvas choice depends on every product being rounded to a double before
// it is truncated. Exact arithmetic, or a fused multiply-add, picks another canvas for some sizes (1348 x
// 1798 is one).
#include "model/picture/grid.h"

#include <algorithm>
#include <cstdint>

#include "base/check.h"

namespace fulger {
namespace {

constexpr int kMaxSide = 1 << 20;  // keeps every 64-bit product below exact

double Ratio(int a, int b) { return static_cast<double>(a) / static_cast<double>(b); }

// Pixels of the picture that survive on `canvas`, and canvas pixels that stay black.
struct Score {
  int64_t effective;
  int64_t waste;
};

Score ScoreCanvas(ImageSize original, ImageSize canvas) {
  const double scale = std::min(Ratio(canvas.width, original.width), Ratio(canvas.height, original.height));
  const auto w = static_cast<int64_t>(static_cast<double>(original.width) * scale);
  const auto h = static_cast<int64_t>(static_cast<double>(original.height) * scale);
  const int64_t effective = std::min(w * h, int64_t{original.width} * original.height);
  return {.effective = effective, .waste = int64_t{canvas.width} * canvas.height - effective};
}

// The first of the best: more effective pixels, then less waste.
ImageSize BestCanvas(ImageSize original, const std::vector<ImageSize>& pinpoints) {
  ImageSize best = pinpoints.front();
  Score best_score = ScoreCanvas(original, best);
  for (const ImageSize canvas : pinpoints) {
    const Score score = ScoreCanvas(original, canvas);
    if (score.effective > best_score.effective ||
        (score.effective == best_score.effective && score.waste < best_score.waste)) {
      best = canvas;
      best_score = score;
    }
  }
  return best;
}

bool WiderThan(ImageSize a, ImageSize b) { return Ratio(a.width, a.height) > Ratio(b.width, b.height); }

int ScaleFloor(int value, int numerator, int denominator) {
  return static_cast<int>(int64_t{value} * numerator / denominator);
}

// The patch map of the padded canvas is cut back to the picture's shape; padding is floored on both sides, so
// an odd rest leaves one padded row or column in.
void Unpad(ImageGrid& grid) {
  const ImageSize map = {.height = grid.rows * grid.patches_per_side,
                         .width = grid.cols * grid.patches_per_side};
  if (WiderThan(grid.original, map)) {
    const int kept = ScaleFloor(grid.original.height, map.width, grid.original.width);
    grid.patch_top = (map.height - kept) / 2;
  } else {
    const int kept = ScaleFloor(grid.original.width, map.height, grid.original.height);
    grid.patch_left = (map.width - kept) / 2;
  }
  grid.patch_rows = map.height - 2 * grid.patch_top;
  grid.patch_cols = map.width - 2 * grid.patch_left;
}

}  // namespace

absl::StatusOr<FitResult> FitIntoCanvas(ImageSize original, ImageSize canvas) {
  FitResult fit;
  if (WiderThan(original, canvas)) {
    fit.resized = {.height = ScaleFloor(canvas.width, original.height, original.width),
                   .width = canvas.width};
  } else {
    fit.resized = {.height = canvas.height,
                   .width = ScaleFloor(canvas.height, original.width, original.height)};
  }
  if (fit.resized.height < 1 || fit.resized.width < 1) {
    return InvalidArgument(
        "image of {}x{} (height x width): too long and thin, one side vanishes on a canvas of {}x{}",
        original.height, original.width, canvas.height, canvas.width);
  }
  fit.top = (canvas.height - fit.resized.height) / 2;
  fit.left = (canvas.width - fit.resized.width) / 2;
  return fit;
}

absl::StatusOr<ImageGrid> SelectGrid(ImageSize original, const ImageProcessorConfig& config) {
  FULGER_CHECK(!config.pinpoints.empty());
  if (original.height < 1 || original.width < 1 || original.height > kMaxSide || original.width > kMaxSide) {
    return InvalidArgument("image of {}x{} (height x width): expected sides from 1 to {}", original.height,
                           original.width, kMaxSide);
  }
  ImageGrid grid;
  grid.original = original;
  grid.canvas = BestCanvas(original, config.pinpoints);
  grid.rows = grid.canvas.height / config.tile_size;
  grid.cols = grid.canvas.width / config.tile_size;
  grid.patches_per_side = config.patches_per_side();
  ASSIGN_OR_RETURN(grid.fit, FitIntoCanvas(original, grid.canvas));
  Unpad(grid);
  return grid;
}

}  // namespace fulger
