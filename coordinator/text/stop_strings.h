// Ends a growing text at a stop string, wherever the chunks happen to be cut. Text that may turn out to be
// the beginning of a stop string is held back; everything else passes at once. Of several stop strings the
// one that is complete first wins; of those complete at the same byte, the longest. One per stream; not
// thread-safe.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

class StopStringMatcher {
 public:
  struct Output {
    std::string text;               // to hand out now
    std::optional<size_t> stopped;  // index of the stop string that ended the text; nothing follows
  };

  // INVALID_ARGUMENT for an empty stop string. None at all is fine: everything passes.
  static absl::StatusOr<StopStringMatcher> Create(std::vector<std::string> stops, bool include_stop_str);

  // Whole characters in (Detokenizer::Push), whole characters out. Once stopped, yields nothing more.
  Output Push(std::string_view text);
  // The text has ended by itself: what was held back, then as new.
  std::string Flush();

  // Bytes held back now.
  size_t held() const { return held_.size(); }
  const std::string& stop(size_t index) const { return patterns_[index].text; }

 private:
  // Knuth-Morris-Pratt: `matched` bytes of the stop string are the end of the text so far.
  struct Pattern {
    std::string text;
    std::vector<size_t> fallback;  // by matched - 1: the longest shorter beginning that is also an end
    size_t matched = 0;
    void Step(char byte);
  };

  StopStringMatcher(std::vector<Pattern> patterns, bool include)
      : patterns_(std::move(patterns)), include_(include) {}

  std::vector<Pattern> patterns_;
  bool include_;
  bool stopped_ = false;
  std::string held_;
};

}  // namespace fulger
