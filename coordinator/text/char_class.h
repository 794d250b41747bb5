// What pre-tokenizers' expressions tell characters apart by, as one table over all code points. It is filled
// once per process by running the classes' own expressions (split_regex.h) over every character with new code
// points swapped (unicode_delta.h): whoever cuts by this table cuts as those expressions do.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fulger {

enum class CharClass : uint8_t {
  kOther,        // none of the below: punctuation, symbols, controls, unassigned
  kUpper,        // \p{Lu} \p{Lt}
  kLower,        // \p{Ll}
  kOtherLetter,  // \p{Lm} \p{Lo}
  kMark,         // \p{M}
  kNumber,       // \p{N}
  kNewline,      // \r \n
  kSpace,        // the rest of \s
};

class CharClasses {
 public:
  // Thread-safe; the first call takes some ten milliseconds.
  static const CharClasses& Get();

  CharClass Of(uint32_t code_point) const {
    return blocks_[block_of_[code_point >> kBlockBits] << kBlockBits | (code_point & (kBlock - 1))];
  }
  CharClass OfAscii(uint8_t byte) const { return blocks_[byte]; }

 private:
  static constexpr int kBlockBits = 8;
  static constexpr size_t kBlock = size_t{1} << kBlockBits;
  static constexpr size_t kBlocks = 0x110000 / kBlock;

  CharClasses();

  std::array<uint16_t, kBlocks> block_of_{};
  std::vector<CharClass> blocks_;  // distinct blocks; the first is that of code point 0
};

}  // namespace fulger
