#include "coordinator/text/word_scanner.h"

namespace fulger {
namespace {

// ByteLevel's own (GPT-2).
constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
// GPT-4o's, and that of the models whose vocabulary has its size.
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

using enum CharClass;

constexpr uint32_t Bit(CharClass c) { return 1U << static_cast<uint32_t>(c); }
constexpr uint32_t kLetters = Bit(kUpper) | Bit(kLower) | Bit(kOtherLetter);
constexpr uint32_t kUpperSide =
    Bit(kUpper) | Bit(kOtherLetter) | Bit(kMark);  // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
constexpr uint32_t kLowerSide = Bit(kLower) | Bit(kOtherLetter) | Bit(kMark);  // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
constexpr uint32_t kSymbols = Bit(kMark) | Bit(kOther);                        // [^\s\p{L}\p{N}]
constexpr uint32_t kSpaces = Bit(kSpace) | Bit(kNewline);                      // \s

// A place in the text: the class of the character there, and where the next one begins.
struct Place {
  const uint8_t* at;
  const uint8_t* next;
  uint32_t bit;  // of the class; 0 at the end

  bool In(uint32_t set) const { return (bit & set) != 0; }
};

class Reader {
 public:
  Reader(const CharClasses& classes, const uint8_t* end) : classes_(classes), end_(end) {}

  Place At(const uint8_t* p) const {
    if (p == end_) return {p, p, 0};
    if (*p < 0x80) return {p, p + 1, Bit(classes_.OfAscii(*p))};
    if (*p < 0xE0) return {p, p + 2, Bit(classes_.Of((p[0] & 0x1FU) << 6 | (p[1] & 0x3FU)))};
    const uint32_t tail = (p[1] & 0x3FU) << 6 | (p[2] & 0x3FU);
    if (*p < 0xF0) return {p, p + 3, Bit(classes_.Of((p[0] & 0x0FU) << 12 | tail))};
    return {p, p + 4, Bit(classes_.Of((p[0] & 0x07U) << 18 | tail << 6 | (p[3] & 0x3FU)))};
  }
  // The first place at or after `place` whose character is outside of `set`.
  Place Past(Place place, uint32_t set) const {
    while (place.In(set)) place = At(place.next);
    return place;
  }
  const uint8_t* end() const { return end_; }

 private:
  const CharClasses& classes_;
  const uint8_t* end_;
};

// 's 't 're 've 'm 'll 'd: its length, or 0. Without regard to case, the long s is an s too.
template <bool kAnyCase>
size_t Contraction(const uint8_t* p, const uint8_t* end) {
  if (end - p < 2 || *p != '\'') return 0;
  const auto letter = [](uint8_t byte) -> uint8_t {
    return kAnyCase && byte >= 'A' && byte <= 'Z' ? byte | 0x20 : byte;
  };
  const uint8_t first = letter(p[1]);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (end - p < 3) return 0;
  if (kAnyCase && first == 0xC5 && p[2] == 0xBF) return 3;  // U+017F
  const uint8_t second = letter(p[2]);
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  return first == 'l' && second == 'l' ? 3 : 0;
}

// \s+(?!\S)|\s+ at white space: the last of several before a word stays with that word.
const uint8_t* SpaceEnd(const Reader& reader, const Place& first) {
  const uint8_t* last = first.at;
  Place place = first;
  while (place.In(kSpaces)) {
    last = place.at;
    place = reader.At(place.next);
  }
  return place.at == reader.end() || last == first.at ? place.at : last;
}

// \s*[\r\n]+ before the above.
const uint8_t* LineOrSpaceEnd(const Reader& reader, const Place& first) {
  const uint8_t* line = nullptr;
  const uint8_t* last = first.at;
  Place place = first;
  while (place.In(kSpaces)) {
    last = place.at;
    if (place.In(Bit(kNewline))) line = place.next;
    place = reader.At(place.next);
  }
  if (line != nullptr) return line;
  return place.at == reader.end() || last == first.at ? place.at : last;
}

const uint8_t* Gpt2WordEnd(const Reader& reader, const uint8_t* p) {
  if (*p == '\'') {
    if (const size_t length = Contraction<false>(p, reader.end()); length > 0) return p + length;
  }
  const Place first = reader.At(p);
  const Place body = *p == ' ' ? reader.At(first.next) : first;  // " ?"
  if (body.In(kLetters)) return reader.Past(body, kLetters).at;
  if (body.In(Bit(kNumber))) return reader.Past(body, Bit(kNumber)).at;
  if (body.In(kSymbols)) return reader.Past(body, kSymbols).at;
  return SpaceEnd(reader, first);
}

// The first two alternatives behind their optional prefix, at a letter or mark. The upper side takes all that
// it can; unless a lower-case letter follows, it gives back so much that one letter or mark of either side
// remains for the lower side; where there is none, only the second alternative is left, with capitals alone.
const uint8_t* LettersEnd(const Reader& reader, Place place) {
  const uint8_t* either_end = nullptr;
  while (place.In(kUpperSide)) {
    if (!place.In(Bit(kUpper))) either_end = place.next;
    place = reader.At(place.next);
  }
  const uint8_t* end = place.In(Bit(kLower))   ? reader.Past(place, kLowerSide).at
                       : either_end != nullptr ? either_end
                                               : place.at;
  return end + Contraction<true>(end, reader.end());
}

// [^\s\p{L}\p{N}]+[\r\n/]* at a symbol.
const uint8_t* SymbolsEnd(const Reader& reader, const Place& first) {
  const uint8_t* p = reader.Past(first, kSymbols).at;
  while (p != reader.end() && (*p == '\r' || *p == '\n' || *p == '/')) ++p;
  return p;
}

const uint8_t* O200kWordEnd(const Reader& reader, const uint8_t* p) {
  const Place first = reader.At(p);
  // A mark may be prefix or beginning of the letters; the end is the same.
  if (first.In(kLetters | Bit(kMark))) return LettersEnd(reader, first);
  if (first.In(Bit(kNumber))) {
    Place place = reader.At(first.next);
    if (place.In(Bit(kNumber))) place = reader.At(place.next);
    if (place.In(Bit(kNumber))) return place.next;
    return place.at;
  }
  if (first.In(Bit(kNewline))) return LineOrSpaceEnd(reader, first);
  const Place second = reader.At(first.next);
  if (second.In(kLetters | Bit(kMark))) return LettersEnd(reader, second);
  if (first.In(Bit(kOther))) return SymbolsEnd(reader, first);
  if (*p == ' ' && second.In(kSymbols)) return SymbolsEnd(reader, second);
  return LineOrSpaceEnd(reader, first);
}

template <typename WordEnd>
size_t CutWith(const Reader& reader, const uint8_t* begin, size_t from, std::span<uint32_t> ends,
               WordEnd word_end) {
  size_t count = 0;
  for (const uint8_t* p = begin + from; p != reader.end() && count < ends.size(); ++count) {
    p = word_end(reader, p);
    ends[count] = static_cast<uint32_t>(p - begin);
  }
  return count;
}

}  // namespace

std::optional<WordScanner> WordScanner::For(std::string_view pattern) {
  if (pattern == kGpt2) return WordScanner(Family::kGpt2, CharClasses::Get());
  if (pattern == kO200k) return WordScanner(Family::kO200k, CharClasses::Get());
  return std::nullopt;
}

size_t WordScanner::Cut(std::string_view text, size_t from, std::span<uint32_t> ends) const {
  const auto* begin = reinterpret_cast<const uint8_t*>(text.data());
  const Reader reader(*classes_, begin + text.size());
  switch (family_) {
    case Family::kGpt2:
      return CutWith(reader, begin, from, ends,
                     [](const Reader& r, const uint8_t* p) { return Gpt2WordEnd(r, p); });
    case Family::kO200k:
      return CutWith(reader, begin, from, ends,
                     [](const Reader& r, const uint8_t* p) { return O200kWordEnd(r, p); });
  }
  return 0;
}

}  // namespace fulger
