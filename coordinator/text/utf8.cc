#include "coordinator/text/utf8.h"

#include <cstring>

namespace fulger {
namespace {

// How many bytes at `p` are ASCII, in steps of eight.
size_t AsciiRun(const char* p, size_t n) {
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    uint64_t word;
    std::memcpy(&word, p + i, 8);
    if ((word & 0x8080808080808080ULL) != 0) break;
  }
  while (i < n && static_cast<uint8_t>(p[i]) < 0x80) ++i;
  return i;
}

}  // namespace

Utf8Head ReadUtf8Head(std::string_view bytes) {
  using Kind = Utf8Head::Kind;
  const auto at = [&](size_t i) { return static_cast<uint8_t>(bytes[i]); };
  const uint8_t lead = at(0);
  if (lead < 0x80) return {Kind::kCharacter, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Kind::kBroken, 1};
  const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (size_t i = 1; i < length; ++i) {
    if (i == bytes.size()) return {Kind::kIncomplete, i};
    if (at(i) < low || at(i) > high) return {Kind::kBroken, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Kind::kCharacter, length};
}

uint32_t DecodeUtf8(const char* character, size_t length) {
  const auto at = [&](size_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(character[i])); };
  switch (length) {
    case 1:
      return at(0);
    case 2:
      return (at(0) & 0x1F) << 6 | (at(1) & 0x3F);
    case 3:
      return (at(0) & 0x0F) << 12 | (at(1) & 0x3F) << 6 | (at(2) & 0x3F);
    default:
      return (at(0) & 0x07) << 18 | (at(1) & 0x3F) << 12 | (at(2) & 0x3F) << 6 | (at(3) & 0x3F);
  }
}

void AppendUtf8(uint32_t code_point, std::string* out) {
  const auto put = [&](uint32_t byte) { out->push_back(static_cast<char>(static_cast<uint8_t>(byte))); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

std::optional<size_t> FindInvalidUtf8(std::string_view bytes) {
  size_t i = 0;
  while (true) {
    i += AsciiRun(bytes.data() + i, bytes.size() - i);
    if (i == bytes.size()) return std::nullopt;
    const Utf8Head head = ReadUtf8Head(bytes.substr(i));
    if (head.kind != Utf8Head::Kind::kCharacter) return i;
    i += head.length;
  }
}

size_t AppendReplacingInvalidUtf8(std::string_view bytes, bool final, std::string* out) {
  size_t i = 0;
  while (true) {
    const size_t ascii = AsciiRun(bytes.data() + i, bytes.size() - i);
    out->append(bytes.substr(i, ascii));
    i += ascii;
    if (i == bytes.size()) return i;
    const Utf8Head head = ReadUtf8Head(bytes.substr(i));
    switch (head.kind) {
      case Utf8Head::Kind::kCharacter:
        out->append(bytes.substr(i, head.length));
        break;
      case Utf8Head::Kind::kIncomplete:
        if (!final) return i;
        [[fallthrough]];
      case Utf8Head::Kind::kBroken:
        out->append(kReplacementCharacter);
        break;
    }
    i += head.length;
  }
}

std::string ReplaceInvalidUtf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  AppendReplacingInvalidUtf8(bytes, /*final=*/true, &out);
  return out;
}

}  // namespace fulger
