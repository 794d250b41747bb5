#include "worker/vision/packing.h"

namespace fulger {

std::vector<int32_t> PackingIndex(const ImageGrid& grid, const std::function<int64_t(int64_t)>& tile_row) {
  const int64_t side = grid.patches_per_side;
  std::vector<int32_t> index;
  index.reserve(static_cast<size_t>(grid.token_count()));
  for (int64_t p = 0; p < side * side; ++p) index.push_back(static_cast<int32_t>(tile_row(0) + p));
  for (int64_t r = grid.patch_top; r < grid.patch_top + grid.patch_rows; ++r) {
    for (int64_t c = grid.patch_left; c < grid.patch_left + grid.patch_cols; ++c) {
      const int64_t tile = 1 + (r / side) * grid.cols + c / side;
      index.push_back(static_cast<int32_t>(tile_row(tile) + (r % side) * side + c % side));
    }
    index.push_back(kNewlineRow);
  }
  return index;
}

}  // namespace fulger
