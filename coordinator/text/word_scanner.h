// Cuts text into words as the known pre-tokenizers' regular expressions do, by hand-written scanners instead
// of a regular expression engine, which took most of the time. Expressions that are none of these go through
// split_regex.h, which is also what the tests hold the scanners against.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "coordinator/text/char_class.h"

namespace fulger {

class WordScanner {
 public:
  // The scanner of exactly this expression; nullopt where there is none.
  static std::optional<WordScanner> For(std::string_view pattern);

  // Writes where words end, beginning with the word at `from`, until `ends` is full or the text is cut up;
  // returns how many. The words cover the text without gaps. `text` is valid UTF-8 below 4 GiB, as it is: new
  // code points need no swapping. Thread-safe.
  size_t Cut(std::string_view text, size_t from, std::span<uint32_t> ends) const;

 private:
  enum class Family : uint8_t { kGpt2, kO200k };
  WordScanner(Family family, const CharClasses& classes) : family_(family), classes_(&classes) {}

  Family family_;
  const CharClasses* classes_;
};

}  // namespace fulger
