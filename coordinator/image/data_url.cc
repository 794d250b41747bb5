#include "coordinator/image/data_url.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace fulger {
namespace {

constexpr std::string_view kScheme = "data:";
constexpr std::string_view kBase64 = ";base64";
constexpr size_t kMaxHeader = 256;  // bytes before the comma
constexpr uint8_t kBad = 0xff;

constexpr std::array<uint8_t, 256> MakeDigits() {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<uint8_t, 256> digits{};
  digits.fill(kBad);
  for (size_t i = 0; i < kAlphabet.size(); ++i) {
    digits[static_cast<uint8_t>(kAlphabet[i])] = static_cast<uint8_t>(i);
  }
  return digits;
}
constexpr std::array<uint8_t, 256> kDigits = MakeDigits();

uint8_t Digit(char c) { return kDigits[static_cast<uint8_t>(c)]; }

std::string Lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// For messages: what a client sent goes back as plain text.
std::string Printable(std::string_view text) {
  std::string out(text);
  std::ranges::replace_if(
      out, [](char c) { return c < ' ' || c > '~'; }, '?');
  return out;
}

// Padding characters at the end: 0, 1 or 2.
size_t Padding(std::string_view text) {
  if (text.ends_with("==")) return 2;
  return text.ends_with('=') ? 1 : 0;
}

uint64_t DecodedSize(std::string_view text) { return text.size() / 4 * 3 - Padding(text); }

}  // namespace

bool IsDataUrl(std::string_view url) { return Lower(url.substr(0, kScheme.size())) == kScheme; }

absl::StatusOr<std::string> DecodeBase64(std::string_view text) {
  if (text.size() % 4 != 0) {
    return InvalidArgument("base64: expected a multiple of 4 characters with '=' padding, found {}",
                           text.size());
  }
  const std::string_view digits = text.substr(0, text.size() - Padding(text));
  std::string out;
  out.reserve(text.size() / 4 * 3);
  uint32_t bits = 0;
  int held = 0;  // bits of `bits` that are not written yet
  for (size_t i = 0; i < digits.size(); ++i) {
    const uint8_t digit = Digit(digits[i]);
    if (digit == kBad) {
      return InvalidArgument("base64: byte 0x{:02x} at position {} is not in the alphabet",
                             static_cast<uint8_t>(digits[i]), i);
    }
    bits = bits << 6 | digit;
    held += 6;
    if (held >= 8) {
      held -= 8;
      out.push_back(static_cast<char>(bits >> held & 0xff));
    }
  }
  if ((bits & ((1U << held) - 1)) != 0)
    return InvalidArgument("base64: the last digit has bits beyond the last byte");
  return out;
}

absl::StatusOr<DataUrl> ParseDataUrl(std::string_view url, uint64_t max_bytes) {
  if (!IsDataUrl(url)) return InvalidArgument("image URL: expected data:image/...;base64,...");
  url.remove_prefix(kScheme.size());
  const size_t comma = url.substr(0, kMaxHeader).find(',');
  if (comma == std::string_view::npos) {
    return InvalidArgument("data URL: no comma in the first {} bytes", kMaxHeader);
  }
  const std::string header = Lower(url.substr(0, comma));
  if (!header.ends_with(kBase64)) {
    return InvalidArgument("data URL: expected data:image/...;base64, found data:{}", Printable(header));
  }
  DataUrl out;
  out.media_type = header.substr(0, header.find(';'));
  if (!out.media_type.starts_with("image/")) {
    return InvalidArgument("data URL: expected an image media type, found \"{}\"", Printable(out.media_type));
  }
  const std::string_view payload = url.substr(comma + 1);
  if (payload.empty()) return InvalidArgument("data URL: no data after the comma");
  if (payload.size() % 4 == 0 && DecodedSize(payload) > max_bytes) {
    return InvalidArgument("data URL: the image has {} bytes, the limit is {}", DecodedSize(payload),
                           max_bytes);
  }
  ASSIGN_OR_RETURN(out.bytes, DecodeBase64(payload));
  return out;
}

}  // namespace fulger
