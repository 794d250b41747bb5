#include "coordinator/text/byte_alphabet.h"

#include <array>

#include "coordinator/text/utf8.h"

namespace fulger {
namespace {

constexpr int kCodePoints = 256 + 68;

struct Alphabet {
  std::array<uint16_t, 256> code_point_of{};
  std::array<int16_t, kCodePoints> byte_of{};
};

constexpr Alphabet MakeAlphabet() {
  Alphabet a;
  for (int16_t& byte : a.byte_of) byte = -1;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    const int code_point = itself ? byte : next++;
    a.code_point_of[static_cast<size_t>(byte)] = static_cast<uint16_t>(code_point);
    a.byte_of[static_cast<size_t>(code_point)] = static_cast<int16_t>(byte);
  }
  return a;
}
constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

std::optional<std::string> BytesFromAlphabet(std::string_view piece) {
  std::string bytes;
  bytes.reserve(piece.size());
  for (size_t i = 0; i < piece.size();) {
    const Utf8Head head = ReadUtf8Head(piece.substr(i));
    if (head.kind != Utf8Head::Kind::kCharacter) return std::nullopt;
    const uint32_t code_point = DecodeUtf8(piece.data() + i, head.length);
    if (code_point >= kCodePoints || kAlphabet.byte_of[code_point] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kAlphabet.byte_of[code_point]));
    i += head.length;
  }
  return bytes;
}

std::string BytesToAlphabet(std::string_view bytes) {
  std::string piece;
  piece.reserve(bytes.size() * 2);
  for (const char byte : bytes) AppendUtf8(kAlphabet.code_point_of[static_cast<uint8_t>(byte)], &piece);
  return piece;
}

}  // namespace fulger
