// Makes room for pictures in a token sequence: each placeholder becomes as many copies as its picture has
// tokens.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace fulger {

struct PlaceholderRun {
  int64_t first = 0;  // position in the expanded ids
  int64_t count = 0;
  int index = 0;  // of the picture, in prompt order
  bool operator==(const PlaceholderRun&) const = default;
};

struct ExpandedPrompt {
  std::vector<int32_t> ids;
  std::vector<PlaceholderRun> runs;  // one per picture, ascending
};

// INVALID_ARGUMENT unless there is one placeholder for each picture. `ids` come from the tokenizer with user
// text encoded without control tokens, so a placeholder is only where a picture was. Counts are positive.
absl::StatusOr<ExpandedPrompt> ExpandPlaceholders(std::span<const int32_t> ids, int32_t image_token_id,
                                                  std::span<const int> token_counts);

}  // namespace fulger
