// Finds the calls of tools in what the model writes:
//   ```typescript
//   functions.NAME({"arg": ...})
//   ```
// Text passes as it comes, except what may be the beginning of a call. A fence that holds no well-formed call
// is text like any other. One per answer; not thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fulger {

struct ToolCall {
  std::string name;
  std::string arguments;  // a JSON object, as the model wrote it
};

class ToolCallParser {
 public:
  struct Output {
    std::string text;
    std::vector<ToolCall> calls;
  };
  Output Push(std::string_view text);
  // The answer is complete: what was held back.
  Output Flush();

 private:
  std::string held_;  // outside a fence: perhaps its beginning; inside: all of it so far
  bool inside_ = false;
};

}  // namespace fulger
