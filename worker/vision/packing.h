// How tile features become the rows that replace a picture's placeholder tokens: the thumbnail's patches,
// then each kept row of the unpadded patch map followed by the newline vector. Integer arithmetic only.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/picture/grid.h"

namespace fulger {

inline constexpr int32_t kNewlineRow = -1;

// Row indices into the tiles' features, kNewlineRow for the newline. `tile_row(t)` is the first feature row
// of tile t (tile 0 is the thumbnail). The result has grid.token_count() entries.
std::vector<int32_t> PackingIndex(const ImageGrid& grid, const std::function<int64_t(int64_t)>& tile_row);

}  // namespace fulger
