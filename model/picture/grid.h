// Which canvas a picture is cut on, and how many tokens it becomes: integer geometry only, no pixels. A token
// count needs nothing but the size in the file's header, so admission can charge for a picture before
// decoding it.
#pragma once

#include "base/status.h"
#include "model/picture/image_size.h"
#include "model/picture/processor_config.h"

namespace fulger {

// Where a picture of some size lands on a canvas when its aspect ratio is kept: resized, then centred.
struct FitResult {
  ImageSize resized;
  int top = 0;   // black rows above; an odd rest is one more row below
  int left = 0;  // black columns left; an odd rest is one more column right
};

struct ImageGrid {
  ImageSize original;  // after EXIF rotation
  ImageSize canvas;
  int rows = 0;  // tiles
  int cols = 0;
  FitResult fit;

  // The rectangle of the canvas's patch map that is kept after unpadding, in patches.
  int patch_top = 0;
  int patch_left = 0;
  int patch_rows = 0;  // 0 for extreme shapes
  int patch_cols = 0;
  int patches_per_side = 0;  // of one tile

  int tile_count() const { return 1 + rows * cols; }  // the thumbnail is first
  // Thumbnail patches, then each kept row followed by one newline.
  int token_count() const { return patches_per_side * patches_per_side + patch_rows * (patch_cols + 1); }
};

// INVALID_ARGUMENT when a side would shrink to nothing (such pictures have no meaning to the model).
absl::StatusOr<FitResult> FitIntoCanvas(ImageSize original, ImageSize canvas);

// INVALID_ARGUMENT for an empty size, sides over 2^20 and shapes that FitIntoCanvas refuses. `config` is one
// that ParseImageProcessorConfig or DefaultImageProcessorConfig made.
absl::StatusOr<ImageGrid> SelectGrid(ImageSize original, const ImageProcessorConfig& config);

}  // namespace fulger
