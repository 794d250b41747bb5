#include "coordinator/text/char_class.h"

#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "base/check.h"
#include "coordinator/text/split_regex.h"
#include "coordinator/text/unicode_delta.h"
#include "coordinator/text/utf8.h"

namespace fulger {
namespace {

constexpr std::pair<std::string_view, CharClass> kExpressions[] = {
    {R"([\p{Lu}\p{Lt}]+)", CharClass::kUpper},
    {R"(\p{Ll}+)", CharClass::kLower},
    {R"([\p{Lm}\p{Lo}]+)", CharClass::kOtherLetter},
    {R"(\p{M}+)", CharClass::kMark},
    {R"(\p{N}+)", CharClass::kNumber},
    {R"(\s+)", CharClass::kSpace},
    {R"([\r\n]+)", CharClass::kNewline}};  // after \s, of which they are part

constexpr uint32_t kCodePoints = 0x110000;
constexpr uint32_t kPart = 0x1000;  // code points looked at together

bool IsSurrogate(uint32_t code_point) { return code_point >= 0xD800 && code_point < 0xE000; }

std::vector<CharClass> ClassifyAll() {
  std::vector<CharClass> classes(kCodePoints, CharClass::kOther);
  std::vector<std::pair<SplitRegex, CharClass>> expressions;
  for (const auto& [pattern, kind] : kExpressions) {
    absl::StatusOr<SplitRegex> regex = SplitRegex::Compile(pattern);
    FULGER_CHECK(regex.ok(), "{}: {}", pattern, regex.status().ToString());
    expressions.emplace_back(*std::move(regex), kind);
  }
  SplitRegex::Scratch scratch;
  std::string text;
  std::string buffer;
  std::vector<uint32_t> code_point_at;  // by byte offset of its first byte
  for (uint32_t base = 0; base < kCodePoints; base += kPart) {
    text.clear();
    code_point_at.clear();
    for (uint32_t c = base; c < base + kPart; ++c) {
      if (IsSurrogate(c)) continue;
      AppendUtf8(c, &text);
      code_point_at.resize(text.size(), c);
    }
    const std::string_view subject = SwapNewCodePoints(text, &buffer);
    for (const auto& [regex, kind] : expressions) {
      for (size_t at = 0; at < subject.size();) {
        const absl::StatusOr<Span> match = regex.Find(subject, at, scratch);
        FULGER_CHECK(match.ok(), "{}", match.status().ToString());
        for (size_t i = match->begin; i < match->end; ++i) classes[code_point_at[i]] = kind;
        at = match->end;
      }
    }
  }
  return classes;
}

}  // namespace

CharClasses::CharClasses() {
  const std::vector<CharClass> classes = ClassifyAll();
  std::map<std::vector<CharClass>, uint16_t> known;
  for (size_t block = 0; block < kBlocks; ++block) {
    const auto begin = classes.begin() + static_cast<std::ptrdiff_t>(block * kBlock);
    std::vector<CharClass> content(begin, begin + static_cast<std::ptrdiff_t>(kBlock));
    const auto next = static_cast<uint16_t>(known.size());
    const auto [it, fresh] = known.emplace(content, next);
    if (fresh) blocks_.insert(blocks_.end(), content.begin(), content.end());
    block_of_[block] = it->second;
  }
}

const CharClasses& CharClasses::Get() {
  static const CharClasses classes;
  return classes;
}

}  // namespace fulger
