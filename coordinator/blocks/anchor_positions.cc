#include "coordinator/blocks/anchor_positions.h"

#include <algorithm>

namespace fulger {

std::vector<AnchorPosition> ChooseAnchors(int64_t prompt, std::span<const int64_t> borders,
                                          std::span<const ImageRun> images, const AnchorRules& rules,
                                          int64_t copies) {
  std::vector<int64_t> ends;
  const auto add = [&](int64_t position) {
    if (position > 0 && position < prompt) ends.push_back(position);
  };
  for (const int64_t border : borders) add(border);
  const int64_t last_border = ends.empty() ? 0 : ends.back();
  for (const ImageRun& image : images) add(image.position + image.rows);
  std::ranges::sort(ends);

  std::vector<AnchorPosition> kept;
  int64_t before = 0;
  const auto fill = [&](int64_t until) {  // with multiples of the interval, far enough from both sides
    if (rules.interval <= 0) return;
    for (int64_t p = (before / rules.interval + 1) * rules.interval; p < until; p += rules.interval) {
      if (p - before >= rules.min_gap && until - p >= rules.min_gap) {
        kept.push_back({.position = p, .value = AnchorValue::kInterval});
      }
    }
  };
  for (const int64_t end : ends) {
    if (end == before) continue;
    if (end < rules.min_gap || (end - before < rules.min_gap && end != last_border)) continue;
    fill(end);
    kept.push_back({.position = end, .value = AnchorValue::kBorder});
    before = end;
  }
  fill(prompt);
  const int64_t deepest = kept.empty() ? 0 : kept.back().position;
  if (copies > 0 && prompt - 1 > deepest && copies * (prompt - 1 - deepest) >= rules.min_gap) {
    kept.push_back({.position = prompt - 1, .value = AnchorValue::kInterval});
  }
  return kept;
}

}  // namespace fulger
