#include "coordinator/image/png_text.h"

#include <zlib.h>

#include <cstdint>

namespace fulger {
namespace {

constexpr size_t kMaxText = 1 << 20;

std::string Inflate(std::string_view compressed) {
  std::string out(kMaxText, '\0');
  uLongf size = kMaxText;
  if (uncompress(reinterpret_cast<Bytef*>(out.data()), &size,
                 reinterpret_cast<const Bytef*>(compressed.data()),
                 static_cast<uLong>(compressed.size())) != Z_OK) {
    return {};
  }
  out.resize(size);
  return out;
}

// Removes and returns what stands before the first zero byte; nothing where there is none.
std::optional<std::string_view> TakeField(std::string_view& body) {
  const size_t end = body.find('\0');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view field = body.substr(0, end);
  body.remove_prefix(end + 1);
  return field;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::optional<PngText> ReadPngText(std::string_view type, std::string_view body) {
  if (type != "tEXt" && type != "zTXt" && type != "iTXt") return std::nullopt;
  const std::optional<std::string_view> key = TakeField(body);
  if (!key || (*key != "Raw profile type exif" && *key != "XML:com.adobe.xmp")) return std::nullopt;
  if (type == "tEXt") return PngText{.key = *key, .value = std::string(body)};
  if (type == "zTXt") {
    return PngText{.key = *key, .value = body.empty() ? std::string() : Inflate(body.substr(1))};
  }
  if (body.size() < 2) return std::nullopt;
  const bool compressed = body[0] != 0;
  body.remove_prefix(2);
  if (!TakeField(body) || !TakeField(body)) return std::nullopt;  // language, translated key
  return PngText{.key = *key, .value = compressed ? Inflate(body) : std::string(body)};
}

std::string DecodeRawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == std::string_view::npos) return {};
    text.remove_prefix(end + 1);
  }
  std::string out;
  int high = -1;
  for (const char c : text) {
    if (c == '\n' || c == '\r' || c == ' ') continue;
    const int digit = HexDigit(c);
    if (digit < 0) return {};
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<char>(high << 4 | digit));
      high = -1;
    }
  }
  return out;
}

}  // namespace fulger
