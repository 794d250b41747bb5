#include "worker/sampling/vocab_mask.h"

#include <algorithm>

namespace fulger {

VocabMask::VocabMask(int64_t vocabulary, std::span<const int32_t> unused) : vocabulary_(vocabulary) {
  std::vector<int32_t> holes(unused.begin(), unused.end());
  std::sort(holes.begin(), holes.end());
  int64_t begin = 0;
  for (const int32_t hole : holes) {
    if (hole < 0 || hole >= vocabulary) continue;
    if (hole > begin) runs_.push_back({begin, hole});
    begin = std::max(begin, int64_t{hole} + 1);
  }
  if (begin < vocabulary) runs_.push_back({begin, vocabulary});
}

bool VocabMask::usable(int64_t id) const {
  const auto after = std::upper_bound(runs_.begin(), runs_.end(), id,
                                      [](int64_t i, const Run& run) { return i < run.begin; });
  return after != runs_.begin() && id < std::prev(after)->end;
}

}  // namespace fulger
