#include "coordinator/grammar/char_set.h"

#include <algorithm>

namespace fulger {
namespace {

constexpr CharSet::Range kSurrogates = {0xd800, 0xdfff};

// Of sorted, separate ranges.
std::vector<CharSet::Range> Cut(const std::vector<CharSet::Range>& from, const CharSet::Range& hole) {
  std::vector<CharSet::Range> left;
  for (const auto& [first, last] : from) {
    if (last < hole.first || first > hole.second) {
      left.emplace_back(first, last);
      continue;
    }
    if (first < hole.first) left.emplace_back(first, hole.first - 1);
    if (last > hole.second) left.emplace_back(hole.second + 1, last);
  }
  return left;
}

}  // namespace

CharSet::CharSet(std::vector<Range> ranges) {
  std::ranges::sort(ranges);
  for (const Range& range : ranges) {
    if (!ranges_.empty() && range.first <= ranges_.back().second + 1) {
      ranges_.back().second = std::max(ranges_.back().second, range.second);
    } else {
      ranges_.push_back(range);
    }
  }
  ranges_ = Cut(ranges_, kSurrogates);
}

const CharSet& CharSet::All() {
  static const CharSet all({{0, kLast}});
  return all;
}

CharSet CharSet::With(const CharSet& other) const {
  std::vector<Range> all = ranges_;
  all.insert(all.end(), other.ranges_.begin(), other.ranges_.end());
  return CharSet(std::move(all));
}

CharSet CharSet::Without(const CharSet& other) const {
  CharSet left = *this;
  for (const Range& range : other.ranges_) left.ranges_ = Cut(left.ranges_, range);
  return left;
}

bool CharSet::Contains(char32_t c) const {
  return std::ranges::any_of(ranges_, [c](const Range& r) { return r.first <= c && c <= r.second; });
}

}  // namespace fulger
