#include "coordinator/text/unicode_delta.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <iterator>

#include "coordinator/text/utf8.h"

namespace fulger {
namespace {

struct Range {
  uint32_t first;
  uint32_t last;
  uint32_t stand_in;
};
constexpr Range kRanges[] = {
#include "coordinator/text/unicode_delta.inc"
};

// Which blocks of 256 code points hold any of the ranges: one look-up rules out nearly every character.
constexpr std::array<bool, 0x1100> MakeBlocks() {
  std::array<bool, 0x1100> blocks{};
  for (const Range& range : kRanges) {
    for (uint32_t block = range.first >> 8; block <= range.last >> 8; ++block) blocks[block] = true;
  }
  return blocks;
}
constexpr std::array<bool, 0x1100> kBlocks = MakeBlocks();

// 0 where the code point needs no swap.
uint32_t StandIn(uint32_t code_point) {
  if (!kBlocks[code_point >> 8]) return 0;
  const auto* range = std::lower_bound(std::begin(kRanges), std::end(kRanges), code_point,
                                       [](const Range& r, uint32_t c) { return r.last < c; });
  return range != std::end(kRanges) && range->first <= code_point ? range->stand_in : 0;
}

}  // namespace

std::string_view SwapNewCodePoints(std::string_view text, std::string* buffer) {
  bool copied = false;
  std::string encoded;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<uint8_t>(text[i]);
    if (lead < 0xE0) {  // the table begins at U+0897
      i += lead < 0x80 ? 1 : 2;
      continue;
    }
    const size_t length = lead < 0xF0 ? 3 : 4;
    if (const uint32_t stand_in = StandIn(DecodeUtf8(text.data() + i, length)); stand_in != 0) {
      if (!copied) buffer->assign(text);
      copied = true;
      encoded.clear();
      AppendUtf8(stand_in, &encoded);
      std::memcpy(buffer->data() + i, encoded.data(), length);
    }
    i += length;
  }
  return copied ? std::string_view(*buffer) : text;
}

}  // namespace fulger
