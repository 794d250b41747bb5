// The printable alphabet in which byte-level BPE files spell bytes: the 188 printable Latin-1 bytes stand for
// themselves, the other 68 for U+0100, U+0101, ... in order (so a space is U+0120, "Ġ").
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace fulger {

// "Ġhello" -> " hello". nullopt where a character is outside the alphabet (or the text is not UTF-8).
std::optional<std::string> BytesFromAlphabet(std::string_view piece);
std::string BytesToAlphabet(std::string_view bytes);

}  // namespace fulger
