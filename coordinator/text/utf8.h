// UTF-8 as Python and Unicode read it: shortest forms only, no surrogates, nothing above U+10FFFF. Broken
// input is replaced one U+FFFD per maximal subpart, as bytes.decode("utf-8", errors="replace") does. Pure
// functions.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fulger {

inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

// What stands at the head of a byte string: a character of `length` bytes, `length` bytes that no character
// can begin with (the maximal subpart), or `length` bytes, all that there are, that more bytes could
// complete.
struct Utf8Head {
  enum class Kind { kCharacter, kBroken, kIncomplete };
  Kind kind;
  size_t length;
};
Utf8Head ReadUtf8Head(std::string_view bytes);  // bytes must not be empty

// The code point of a character that ReadUtf8Head found whole; `length` is its.
uint32_t DecodeUtf8(const char* character, size_t length);
void AppendUtf8(uint32_t code_point, std::string* out);

// The offset of the first byte that is not part of a whole character; nullopt where all is well.
std::optional<size_t> FindInvalidUtf8(std::string_view bytes);

// Appends `bytes`, broken sequences replaced, and returns how many bytes that used up: all of them, unless
// `final` is false and the tail is the beginning of a character, which then stays behind.
size_t AppendReplacingInvalidUtf8(std::string_view bytes, bool final, std::string* out);
std::string ReplaceInvalidUtf8(std::string_view bytes);

}  // namespace fulger
