#include "coordinator/text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace fulger {

absl::StatusOr<StopStringMatcher> StopStringMatcher::Create(std::vector<std::string> stops,
                                                            bool include_stop_str) {
  std::vector<Pattern> patterns;
  for (size_t i = 0; i < stops.size(); ++i) {
    if (stops[i].empty()) return InvalidArgument("stop[{}]: empty string", i);
    Pattern pattern{.text = std::move(stops[i]), .fallback = {0}};
    size_t length = 0;
    for (size_t at = 1; at < pattern.text.size(); ++at) {
      while (length > 0 && pattern.text[at] != pattern.text[length]) length = pattern.fallback[length - 1];
      if (pattern.text[at] == pattern.text[length]) ++length;
      pattern.fallback.push_back(length);
    }
    patterns.push_back(std::move(pattern));
  }
  return StopStringMatcher(std::move(patterns), include_stop_str);
}

// Never called on a complete match: the stream has ended there.
void StopStringMatcher::Pattern::Step(char byte) {
  while (matched > 0 && text[matched] != byte) matched = fallback[matched - 1];
  if (text[matched] == byte) ++matched;
}

StopStringMatcher::Output StopStringMatcher::Push(std::string_view text) {
  if (stopped_) return {};
  Output out{.text = std::exchange(held_, {}), .stopped = std::nullopt};
  if (patterns_.empty()) {
    out.text += text;
    return out;
  }
  for (const char byte : text) {
    out.text.push_back(byte);
    size_t longest = 0;
    for (size_t i = 0; i < patterns_.size(); ++i) {
      Pattern& pattern = patterns_[i];
      pattern.Step(byte);
      if (pattern.matched == pattern.text.size() && pattern.matched > longest) {
        longest = pattern.matched;
        out.stopped = i;
      }
    }
    if (out.stopped.has_value()) {
      stopped_ = true;
      if (!include_) out.text.resize(out.text.size() - longest);
      return out;
    }
  }
  size_t hold = 0;
  for (const Pattern& pattern : patterns_) hold = std::max(hold, pattern.matched);
  held_ = out.text.substr(out.text.size() - hold);
  out.text.resize(out.text.size() - hold);
  return out;
}

std::string StopStringMatcher::Flush() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  stopped_ = false;
  return std::exchange(held_, {});
}

}  // namespace fulger
