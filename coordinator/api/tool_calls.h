// Finds the calls of tools in what the model writes:
//   ```typescript
//   functions.NAME({"arg": ...})
//   ```
// Text passes as it comes, except what may be the beginning of a call; so do a call's arguments. One per
// answer; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fulger {

// A piece of a call. The first of a call has its name, and more arguments may follow it.
struct ToolCallDelta {
  int64_t index = 0;        // of the call in the answer
  std::string name{};       // empty: not the first piece
  std::string arguments{};  // as the model wrote them, in pieces: JSON, if the model does as it should
};

class ToolCallParser {
 public:
  struct Output {
    std::string text;
    std::vector<ToolCallDelta> calls;
  };
  Output Push(std::string_view text);
  // The answer is complete: what was held back. A call that was begun remains one.
  Output Flush();
  // Calls that are complete.
  int64_t complete() const { return complete_; }

 private:
  enum class Place : uint8_t { kText, kName, kArguments, kBehind };

  // Each consumes the beginning of held_ and returns whether to go on.
  bool InText(Output* out);
  bool InName(Output* out);
  bool InArguments(Output* out);
  bool Behind();
  void AddArguments(std::string_view text, Output* out);

  Place place_ = Place::kText;
  std::string held_;  // not yet understood
  int64_t begun_ = 0, complete_ = 0;
  // Of the call that is being written.
  int depth_ = 0;
  bool quoted_ = false, escaped_ = false, any_arguments_ = false;
  std::string spaces_;  // seen and not handed out: perhaps the last of the arguments
};

}  // namespace fulger
