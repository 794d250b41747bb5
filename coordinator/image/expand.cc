#include "coordinator/image/expand.h"

#include <algorithm>

#include "base/check.h"

namespace fulger {

absl::StatusOr<ExpandedPrompt> ExpandPlaceholders(std::span<const int32_t> ids, int32_t image_token_id,
                                                  std::span<const int> token_counts) {
  const auto placeholders = static_cast<size_t>(std::ranges::count(ids, image_token_id));
  if (placeholders != token_counts.size()) {
    return InvalidArgument("prompt: {} image placeholders (token {}) for {} images", placeholders,
                           image_token_id, token_counts.size());
  }
  size_t length = ids.size() - placeholders;
  for (const int count : token_counts) {
    FULGER_CHECK(count > 0, "an image of {} tokens", count);
    length += static_cast<size_t>(count);
  }
  ExpandedPrompt out;
  out.ids.reserve(length);
  out.runs.reserve(token_counts.size());
  for (const int32_t id : ids) {
    if (id != image_token_id) {
      out.ids.push_back(id);
      continue;
    }
    const int index = static_cast<int>(out.runs.size());
    out.runs.push_back(
        {.first = static_cast<int64_t>(out.ids.size()), .count = token_counts[index], .index = index});
    out.ids.insert(out.ids.end(), static_cast<size_t>(token_counts[index]), image_token_id);
  }
  return out;
}

}  // namespace fulger
