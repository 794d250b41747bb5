#include "coordinator/api/tool_calls.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace fulger {
namespace {

constexpr std::string_view kOpen = "```typescript\nfunctions.";
constexpr std::string_view kFunctions = "functions.";
// Raw line breaks do not occur inside JSON strings, so this ends the fence and nothing else.
constexpr std::string_view kClose = "\n```";

// Length of the longest end of `text` with which kOpen begins.
size_t OpenSuffix(std::string_view text) {
  for (size_t n = std::min(text.size(), kOpen.size() - 1); n > 0; --n) {
    if (text.ends_with(kOpen.substr(0, n))) return n;
  }
  return 0;
}

// Position of the ')' that ends the arguments that begin at `from`; npos if there is none.
size_t EndOfArguments(std::string_view text, size_t from) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = from; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\') ++i;
      if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '(' || c == '{' || c == '[') {
      ++depth;
    } else if (c == ')' && depth == 0) {
      return i;
    } else if (c == ')' || c == '}' || c == ']') {
      --depth;
    }
  }
  return std::string_view::npos;
}

// What stands between the fence's lines: one or more calls, and nothing else.
std::optional<std::vector<ToolCall>> ParseCalls(std::string_view body) {
  std::vector<ToolCall> calls;
  while (true) {
    const size_t start = body.find_first_not_of(" \t\r\n;");
    if (start == std::string_view::npos) break;
    body.remove_prefix(start);
    if (!body.starts_with(kFunctions)) return std::nullopt;
    body.remove_prefix(kFunctions.size());
    const size_t paren = body.find('(');
    if (paren == std::string_view::npos || paren == 0) return std::nullopt;
    const size_t end = EndOfArguments(body, paren + 1);
    if (end == std::string_view::npos) return std::nullopt;
    ToolCall call{.name = std::string(body.substr(0, paren)),
                  .arguments = std::string(body.substr(paren + 1, end - paren - 1))};
    if (call.arguments.find_first_not_of(" \t\r\n") == std::string::npos) call.arguments = "{}";
    const auto parsed = nlohmann::json::parse(call.arguments, nullptr, /*allow_exceptions=*/false);
    if (!parsed.is_object()) return std::nullopt;
    calls.push_back(std::move(call));
    body.remove_prefix(end + 1);
  }
  if (calls.empty()) return std::nullopt;
  return calls;
}

}  // namespace

ToolCallParser::Output ToolCallParser::Push(std::string_view text) {
  Output out;
  held_ += text;
  while (true) {
    if (!inside_) {
      const size_t open = held_.find(kOpen);
      if (open == std::string::npos) {
        const size_t keep = OpenSuffix(held_);
        out.text += held_.substr(0, held_.size() - keep);
        held_.erase(0, held_.size() - keep);
        return out;
      }
      out.text += held_.substr(0, open);
      held_.erase(0, open);
      inside_ = true;
    }
    const size_t close = held_.find(kClose, kOpen.size());
    if (close == std::string::npos) return out;
    const size_t body = kOpen.size() - kFunctions.size();
    const size_t end = close + kClose.size();
    if (auto calls = ParseCalls(std::string_view(held_).substr(body, close - body))) {
      out.calls.insert(out.calls.end(), calls->begin(), calls->end());
    } else {
      out.text += held_.substr(0, end);
    }
    held_.erase(0, end);
    inside_ = false;
  }
}

ToolCallParser::Output ToolCallParser::Flush() {
  Output out;
  // A model may stop right after the call, without closing the fence.
  if (inside_) {
    const size_t body = kOpen.size() - kFunctions.size();
    if (auto calls = ParseCalls(std::string_view(held_).substr(body))) out.calls = *std::move(calls);
  }
  if (out.calls.empty()) out.text = held_;
  held_.clear();
  inside_ = false;
  return out;
}

}  // namespace fulger
