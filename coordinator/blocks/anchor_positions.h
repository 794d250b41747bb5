// Where a prompt is worth an anchor: a pure function of its shape.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "coordinator/blocks/anchor_cache.h"
#include "coordinator/blocks/prefix.h"

namespace fulger {

struct AnchorRules {
  int64_t interval = 2048;  // along a prompt; a multiple of the block size; 0: none
  // Anchors this close to the beginning or to the one before are left out: each costs a slot, and a step that
  // must end there.
  int64_t min_gap = 128;
};

struct AnchorPosition {
  int64_t position = 0;
  AnchorValue value = AnchorValue::kBorder;

  bool operator==(const AnchorPosition&) const = default;
};

// Ascending, each > 0 and < prompt (the last token of a prompt is always run). `borders`: where messages end,
// ascending. Taken are the borders, the ends of pictures and the multiples of the interval. Of those within
// min_gap of each other a border or picture wins over a multiple, the earlier over the later; but the last
// border stays, because the next turn of the conversation, or the same prompt again, continues there.
// `copies` others bring the same prompt now: if they would run min_gap tokens more than their last one each,
// there is an anchor before that one, where they go on.
std::vector<AnchorPosition> ChooseAnchors(int64_t prompt, std::span<const int64_t> borders,
                                          std::span<const ImageRun> images, const AnchorRules& rules,
                                          int64_t copies);

}  // namespace fulger
