// From the text of a regular expression to its tree. Internal to regex.cc.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/grammar/char_set.h"

namespace fulger {

struct RegexNode {
  enum class Kind : uint8_t {
    kChars,     // one of `chars`
    kSequence,  // all children, one after the other; none: the empty string
    kChoice,    // any of the children
    kRepeat,    // the child, `least` to `most` times; most -1: any number
    kBegin,     // ^
    kEnd,       // $
  };
  Kind kind = Kind::kSequence;
  CharSet chars{};
  std::vector<RegexNode> children{};
  int64_t least = 0, most = 0;
};

// INVALID_ARGUMENT with the position (in bytes, from 1) and what is wrong there.
absl::StatusOr<RegexNode> ParseRegex(std::string_view expression);

}  // namespace fulger
