#include "coordinator/api/tool_calls.h"

#include <algorithm>
#include <utility>

namespace fulger {
namespace {

// The control token that opens a call is text only where special tokens are not skipped.
constexpr std::string_view kMark = "<function_call>",
                           kMarkedOpen = "<function_call>```typescript\nfunctions.";
constexpr std::string_view kOpen = kMarkedOpen.substr(kMark.size());
constexpr std::string_view kFunctions = "functions.", kFence = "```";
constexpr size_t kMaxName = 128;

// Length of the longest end of `text` with which `pattern` begins, short of the whole.
size_t BeginningAtEnd(std::string_view text, std::string_view pattern) {
  for (size_t n = std::min(text.size(), pattern.size() - 1); n > 0; --n) {
    if (text.ends_with(pattern.substr(0, n))) return n;
  }
  return 0;
}

bool IsSpace(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }
bool IsNameCharacter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
         c == '.';
}

}  // namespace

bool ToolCallParser::InText(Output* out) {
  const size_t open = held_.find(kOpen);
  if (open == std::string::npos) {
    const size_t keep = std::max(BeginningAtEnd(held_, kOpen), BeginningAtEnd(held_, kMarkedOpen));
    out->text += held_.substr(0, held_.size() - keep);
    held_.erase(0, held_.size() - keep);
    return false;
  }
  std::string_view text = std::string_view(held_).substr(0, open);
  if (text.ends_with(kMark)) text.remove_suffix(kMark.size());
  out->text += text;
  held_.erase(0, open + kOpen.size());
  place_ = Place::kName;
  return true;
}

bool ToolCallParser::InName(Output* out) {
  const auto end = std::ranges::find_if_not(held_, IsNameCharacter);
  const auto length = static_cast<size_t>(end - held_.begin());
  if (end == held_.end() && length <= kMaxName) return false;
  if (length == 0 || length > kMaxName || *end != '(') {  // no call after all
    out->text += kOpen;
    place_ = Place::kText;
    return true;
  }
  out->calls.push_back({.index = begun_++, .name = held_.substr(0, length)});
  held_.erase(0, length + 1);
  depth_ = 0;
  quoted_ = escaped_ = any_arguments_ = false;
  spaces_.clear();
  place_ = Place::kArguments;
  return true;
}

void ToolCallParser::AddArguments(std::string_view text, Output* out) {
  if (text.empty()) return;
  any_arguments_ = true;
  const int64_t index = begun_ - 1;
  if (out->calls.empty() || out->calls.back().index != index) out->calls.push_back({.index = index});
  out->calls.back().arguments += text;
}

bool ToolCallParser::InArguments(Output* out) {
  std::string arguments;
  size_t i = 0;
  bool complete = false;
  for (; i < held_.size() && !complete; ++i) {
    const char c = held_[i];
    if (quoted_) {
      quoted_ = escaped_ || c != '"';
      escaped_ = !escaped_ && c == '\\';
    } else if (IsSpace(c)) {
      if (any_arguments_ || !arguments.empty()) spaces_.push_back(c);
      continue;
    } else if (c == '"') {
      quoted_ = true;
    } else if (c == '(' || c == '{' || c == '[') {
      ++depth_;
    } else if (c == ')' && depth_ == 0) {
      complete = true;
      continue;
    } else if (c == ')' || c == '}' || c == ']') {
      depth_ = std::max(0, depth_ - 1);
    }
    arguments += std::exchange(spaces_, {});
    arguments.push_back(c);
  }
  held_.erase(0, i);
  AddArguments(arguments, out);
  if (!complete) return false;
  if (!any_arguments_) AddArguments("{}", out);
  ++complete_;
  place_ = Place::kBehind;
  return true;
}

// Another call, the end of the fence, or something that is no part of a call.
bool ToolCallParser::Behind() {
  const size_t start = held_.find_first_not_of(" \t\r\n;");
  if (start == std::string::npos) return false;
  const std::string_view rest = std::string_view(held_).substr(start);
  for (const auto& [word, place] : {std::pair(kFunctions, Place::kName), std::pair(kFence, Place::kText)}) {
    if (rest.starts_with(word)) {
      held_.erase(0, start + word.size());
      place_ = place;
      return true;
    }
    if (word.starts_with(rest)) return false;
  }
  place_ = Place::kText;
  return true;
}

ToolCallParser::Output ToolCallParser::Push(std::string_view text) {
  Output out;
  held_ += text;
  for (bool more = true; more;) {
    switch (place_) {
      case Place::kText:
        more = InText(&out);
        break;
      case Place::kName:
        more = InName(&out);
        break;
      case Place::kArguments:
        more = InArguments(&out);
        break;
      case Place::kBehind:
        more = Behind();
        break;
    }
  }
  return out;
}

ToolCallParser::Output ToolCallParser::Flush() {
  Output out;
  if (place_ == Place::kText) out.text = held_;
  if (place_ == Place::kName) out.text = std::string(kOpen) + held_;
  held_.clear();
  place_ = Place::kText;
  return out;
}

}  // namespace fulger
