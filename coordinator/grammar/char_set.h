// Sets of Unicode characters, as sorted ranges.
#pragma once

#include <utility>
#include <vector>

namespace fulger {

class CharSet {
 public:
  using Range = std::pair<char32_t, char32_t>;  // both ends included
  static constexpr char32_t kLast = 0x10ffff;

  CharSet() = default;
  explicit CharSet(std::vector<Range> ranges);  // in any order; may overlap

  static CharSet Of(char32_t c) { return CharSet({{c, c}}); }
  static const CharSet& All();

  CharSet With(const CharSet& other) const;
  CharSet Without(const CharSet& other) const;
  bool Contains(char32_t c) const;
  bool empty() const { return ranges_.empty(); }
  // Ascending, apart from each other. Surrogates are no characters: they are never in it.
  const std::vector<Range>& ranges() const { return ranges_; }
  auto operator<=>(const CharSet&) const = default;

 private:
  std::vector<Range> ranges_;
};

}  // namespace fulger
