#include "coordinator/grammar/regex_parser.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

namespace fulger {
namespace {

constexpr int kMostNested = 64;
constexpr int64_t kMostRepeats = 4096;

CharSet Digits() { return CharSet({{'0', '9'}}); }
CharSet WordCharacters() { return CharSet({{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}}); }
CharSet Spaces() {
  return CharSet({{'\t', '\r'},
                  {' ', ' '},
                  {0xa0, 0xa0},
                  {0x1680, 0x1680},
                  {0x2000, 0x200a},
                  {0x2028, 0x2029},
                  {0x202f, 0x202f},
                  {0x205f, 0x205f},
                  {0x3000, 0x3000},
                  {0xfeff, 0xfeff}});
}
CharSet LineEnds() { return CharSet({{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}}); }

// \d and its kin; none for other letters.
std::optional<CharSet> ClassOf(char letter) {
  switch (letter) {
    case 'd':
      return Digits();
    case 'D':
      return CharSet::All().Without(Digits());
    case 'w':
      return WordCharacters();
    case 'W':
      return CharSet::All().Without(WordCharacters());
    case 's':
      return Spaces();
    case 'S':
      return CharSet::All().Without(Spaces());
    default:
      return std::nullopt;
  }
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  absl::StatusOr<RegexNode> Parse() {
    ASSIGN_OR_RETURN(RegexNode tree, Choice(0));
    if (at_ < text_.size()) return Wrong("a \")\" without its \"(\"");
    return tree;
  }

 private:
  template <typename... Args>
  absl::Status Wrong(fmt::format_string<Args...> format, Args&&... args) const {
    return InvalidArgument("position {}: {}", at_ + 1, fmt::format(format, std::forward<Args>(args)...));
  }
  bool Ended() const { return at_ >= text_.size(); }
  char Peek() const { return Ended() ? '\0' : text_[at_]; }
  bool Take(std::string_view what) {
    if (!text_.substr(at_).starts_with(what)) return false;
    at_ += what.size();
    return true;
  }

  absl::StatusOr<RegexNode> Choice(int depth) {
    if (depth > kMostNested) return Wrong("groups are nested more than {} deep", kMostNested);
    RegexNode choice{.kind = RegexNode::Kind::kChoice};
    do {
      ASSIGN_OR_RETURN(choice.children.emplace_back(), Sequence(depth));
    } while (Take("|"));
    if (choice.children.size() > 1) return choice;
    RegexNode only = std::move(choice.children.front());
    return only;
  }

  absl::StatusOr<RegexNode> Sequence(int depth) {
    RegexNode sequence;
    while (!Ended() && Peek() != '|' && Peek() != ')') {
      ASSIGN_OR_RETURN(RegexNode atom, Atom(depth));
      ASSIGN_OR_RETURN(sequence.children.emplace_back(), Quantified(std::move(atom)));
    }
    return sequence;
  }

  absl::StatusOr<RegexNode> Atom(int depth) {
    if (Take("(")) return Group(depth);
    if (Take("[")) return Class();
    if (Take("^")) return RegexNode{.kind = RegexNode::Kind::kBegin};
    if (Take("$")) return RegexNode{.kind = RegexNode::Kind::kEnd};
    if (Take(".")) return Chars(CharSet::All().Without(LineEnds()));
    if (std::string_view("*+?{").find(Peek()) != std::string_view::npos) return Wrong("nothing to repeat");
    if (Peek() == '}' || Peek() == ']') return Wrong("a \"{}\" without its beginning", Peek());
    if (Peek() != '\\') {
      ASSIGN_OR_RETURN(const char32_t c, Character());
      return Chars(CharSet::Of(c));
    }
    ASSIGN_OR_RETURN(CharSet set, Escape(/*in_class=*/false));
    return Chars(std::move(set));
  }

  static RegexNode Chars(CharSet set) { return {.kind = RegexNode::Kind::kChars, .chars = std::move(set)}; }

  absl::StatusOr<RegexNode> Group(int depth) {
    if (Take("?")) {
      if (Peek() == '=' || Peek() == '!') return Wrong("look-ahead is not supported");
      if (!Take(":")) {
        if (!Take("<") || Peek() == '=' || Peek() == '!') return Wrong("this kind of group is not supported");
        while (!Ended() && Peek() != '>') ++at_;  // its name
        if (!Take(">")) return Wrong("the group's name does not end");
      }
    }
    ASSIGN_OR_RETURN(RegexNode inside, Choice(depth + 1));
    if (!Take(")")) return Wrong("a \"(\" without its \")\"");
    return inside;
  }

  absl::StatusOr<RegexNode> Quantified(RegexNode atom) {
    std::pair<int64_t, int64_t> times{1, 1};
    const size_t begin = at_;
    if (Take("*")) {
      times = {0, -1};
    } else if (Take("+")) {
      times = {1, -1};
    } else if (Take("?")) {
      times = {0, 1};
    } else if (Take("{")) {
      ASSIGN_OR_RETURN(times, Counts());
    } else {
      return atom;
    }
    if (atom.kind == RegexNode::Kind::kBegin || atom.kind == RegexNode::Kind::kEnd) {
      at_ = begin;
      return Wrong("^ and $ cannot be repeated");
    }
    Take("?");  // lazy: the same strings
    if (std::string_view("*+?{").find(Peek()) != std::string_view::npos && !Ended()) {
      return Wrong("a repetition of a repetition needs a group");
    }
    RegexNode repeat{.kind = RegexNode::Kind::kRepeat, .least = times.first, .most = times.second};
    repeat.children.push_back(std::move(atom));
    return repeat;
  }

  absl::StatusOr<int64_t> Number() {
    if (Peek() < '0' || Peek() > '9') return Wrong("expected a number");
    int64_t value = 0;
    while (Peek() >= '0' && Peek() <= '9') {
      value = value * 10 + (text_[at_++] - '0');
      if (value > kMostRepeats) return Wrong("more than {} repetitions", kMostRepeats);
    }
    return value;
  }

  absl::StatusOr<std::pair<int64_t, int64_t>> Counts() {
    std::pair<int64_t, int64_t> times;
    ASSIGN_OR_RETURN(times.first, Number());
    times.second = times.first;
    if (Take(",")) {
      times.second = -1;
      if (Peek() != '}') {
        ASSIGN_OR_RETURN(times.second, Number());
        if (times.second < times.first) return Wrong("{} is more than {}", times.first, times.second);
      }
    }
    if (!Take("}")) return Wrong("expected \"}}\"");
    return times;
  }

  absl::StatusOr<RegexNode> Class() {
    const bool negated = Take("^");
    CharSet set;
    while (!Take("]")) {
      if (Ended()) return Wrong("a \"[\" without its \"]\"");
      ASSIGN_OR_RETURN(CharSet first, ClassMember());
      if (Peek() != '-' || text_.substr(at_).starts_with("-]")) {
        set = set.With(first);
        continue;
      }
      ++at_;
      ASSIGN_OR_RETURN(const CharSet last, ClassMember());
      const auto one = [](const CharSet& s) {
        return s.ranges().size() == 1 && s.ranges()[0].first == s.ranges()[0].second;
      };
      if (!one(first) || !one(last)) return Wrong("a range needs a character at both ends");
      const char32_t from = first.ranges()[0].first, to = last.ranges()[0].first;
      if (from > to) return Wrong("the range is upside down");
      set = set.With(CharSet({{from, to}}));
    }
    if (negated) set = CharSet::All().Without(set);
    return Chars(std::move(set));
  }

  absl::StatusOr<CharSet> ClassMember() {
    if (Ended()) return Wrong("a \"[\" without its \"]\"");
    if (Peek() == '\\') return Escape(/*in_class=*/true);
    ASSIGN_OR_RETURN(const char32_t c, Character());
    return CharSet::Of(c);
  }

  absl::StatusOr<CharSet> Escape(bool in_class) {
    const size_t begin = at_++;
    if (Ended()) {
      at_ = begin;
      return Wrong("a backslash at the end");
    }
    const char letter = text_[at_++];
    if (auto set = ClassOf(letter)) return *std::move(set);
    constexpr std::string_view kNames = "tnrfv0", kMeant("\t\n\r\f\v\0", 6);
    if (const size_t known = kNames.find(letter); known != std::string_view::npos) {
      if (letter == '0' && Peek() >= '0' && Peek() <= '9') return Wrong("octal escapes are not supported");
      return CharSet::Of(static_cast<unsigned char>(kMeant[known]));
    }
    if (letter == 'b' && in_class) return CharSet::Of('\b');
    if (letter == 'x') return Hex(2);
    if (letter == 'u') return Unicode();
    const bool punctuation = letter > ' ' && letter < 0x7f && letter != '_' &&
                             !WordCharacters().Contains(static_cast<unsigned char>(letter));
    if (punctuation) return CharSet::Of(static_cast<unsigned char>(letter));
    at_ = begin;
    if (letter >= '1' && letter <= '9') return Wrong("back references are not supported");
    return Wrong("\"\\{}\" is not supported", letter);
  }

  absl::StatusOr<CharSet> Hex(int digits) {
    ASSIGN_OR_RETURN(const char32_t c, HexNumber(digits));
    return CharSet::Of(c);
  }
  absl::StatusOr<char32_t> HexNumber(int digits) {
    char32_t value = 0;
    for (int i = 0; i < digits; ++i) {
      const size_t digit = std::string_view("0123456789abcdefABCDEF").find(Peek());
      if (Ended() || digit == std::string_view::npos) return Wrong("expected {} hexadecimal digits", digits);
      value = value * 16 + static_cast<char32_t>(digit < 16 ? digit : digit - 6);
      ++at_;
    }
    return value;
  }
  absl::StatusOr<CharSet> Unicode() {
    if (Take("{")) {
      const size_t end = text_.find('}', at_);
      if (end == std::string_view::npos || end == at_ || end - at_ > 6) return Wrong("expected \\u{{H...}}");
      ASSIGN_OR_RETURN(const char32_t c, HexNumber(static_cast<int>(end - at_)));
      if (c > CharSet::kLast) return Wrong("there is no such character");
      ++at_;
      return CharSet::Of(c);
    }
    ASSIGN_OR_RETURN(char32_t c, HexNumber(4));
    if (c >= 0xd800 && c < 0xdc00 && Take("\\u")) {
      ASSIGN_OR_RETURN(const char32_t low, HexNumber(4));
      if (low < 0xdc00 || low > 0xdfff) return Wrong("half a surrogate pair");
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    return CharSet::Of(c);
  }

  // One character of UTF-8, as it stands. The text is valid: it was a JSON string.
  absl::StatusOr<char32_t> Character() {
    const auto byte = static_cast<unsigned char>(text_[at_]);
    const size_t length = byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
    if (byte >= 0x80 && (byte < 0xc2 || byte > 0xf4 || at_ + length > text_.size())) return Wrong("no UTF-8");
    char32_t c = length == 1 ? byte : byte & (0x7fU >> length);
    for (size_t i = 1; i < length; ++i) c = (c << 6) | (static_cast<unsigned char>(text_[at_ + i]) & 0x3fU);
    at_ += length;
    return c;
  }

  const std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

absl::StatusOr<RegexNode> ParseRegex(std::string_view expression) { return Parser(expression).Parse(); }

}  // namespace fulger
