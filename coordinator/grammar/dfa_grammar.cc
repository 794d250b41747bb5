#include "coordinator/grammar/dfa_grammar.h"

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

namespace fulger {
namespace {

constexpr std::string_view kShortEscapes = "\b\f\n\r\t\"\\";
constexpr std::string_view kShortNames = "bfnrt\"\\";

// How far each state is from the nearest that accepts.
std::vector<int> Distances(const Dfa& dfa) {
  std::vector<std::vector<int32_t>> sources(dfa.states.size());
  std::vector<int> distance(dfa.states.size(), -1);
  std::vector<int32_t> todo;
  for (size_t i = 0; i < dfa.states.size(); ++i) {
    for (const Dfa::Edge& edge : dfa.states[i].edges) {
      sources[static_cast<size_t>(edge.to)].push_back(static_cast<int32_t>(i));
    }
    if (!dfa.states[i].accepts) continue;
    distance[i] = 0;
    todo.push_back(static_cast<int32_t>(i));
  }
  for (size_t i = 0; i < todo.size(); ++i) {
    const auto at = static_cast<size_t>(todo[i]);
    for (const int32_t source : sources[at]) {
      if (distance[static_cast<size_t>(source)] >= 0) continue;
      distance[static_cast<size_t>(source)] = distance[at] + 1;
      todo.push_back(source);
    }
  }
  return distance;
}

class Writer {
 public:
  Writer(GrammarBuilder* builder, const Dfa& dfa, bool json, int32_t end)
      : b_(*builder),
        dfa_(dfa),
        json_(json),
        end_(end),
        nodes_(dfa.states.size(), -1),
        placeholders_(dfa.states.size(), -1) {}

  // Nearest to the end first: so a state's shortest way leads to nodes that are there already, and only loops
  // need placeholders.
  int32_t Write() {
    if (dfa_.states.empty()) return b_.Placeholder();  // nothing
    const std::vector<int> distance = Distances(dfa_);
    std::vector<size_t> order(dfa_.states.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, {}, [&](size_t i) { return distance[i]; });
    for (const size_t i : order) {
      if (b_.full()) break;
      nodes_[i] = State(dfa_.states[i]);
      if (placeholders_[i] >= 0) b_.Fill(placeholders_[i], nodes_[i]);
    }
    return nodes_[0] < 0 ? b_.end() : nodes_[0];
  }

 private:
  int32_t NodeOf(int32_t state) {
    const auto i = static_cast<size_t>(state);
    if (nodes_[i] >= 0) return nodes_[i];
    if (placeholders_[i] < 0) placeholders_[i] = b_.Placeholder();
    return placeholders_[i];
  }

  int32_t State(const Dfa::State& state) {
    std::map<int32_t, std::vector<CharSet::Range>> by_target;
    for (const Dfa::Edge& edge : state.edges) by_target[edge.to].push_back(edge.range);
    std::vector<int32_t> ways;
    if (state.accepts) ways.push_back(end_);
    for (const auto& [target, ranges] : by_target) Characters(ranges, NodeOf(target), &ways);
    return b_.Split(std::move(ways));
  }

  void Characters(const std::vector<CharSet::Range>& ranges, int32_t next, std::vector<int32_t>* ways) {
    const CharSet set{ranges};
    CharSet plain = set;
    if (json_) {
      plain = plain.Without(CharSet({{0, 0x1f}, {'"', '"'}, {'\\', '\\'}}));
      Escapes(set, next, ways);
    }
    for (const CharSet::Range& range : plain.ranges()) Utf8(range, next, ways);
  }

  void Escapes(const CharSet& set, int32_t next, std::vector<int32_t>* ways) {
    ByteSet names;
    std::array<ByteSet, 2> hex;  // \u000X, \u001X
    for (size_t i = 0; i < kShortEscapes.size(); ++i) {
      if (set.Contains(static_cast<unsigned char>(kShortEscapes[i]))) {
        names.set(static_cast<unsigned char>(kShortNames[i]));
      }
    }
    for (char32_t c = 0; c < 0x20; ++c) {
      if (!set.Contains(c) || kShortEscapes.find(static_cast<char>(c)) != std::string_view::npos) continue;
      hex[c >> 4].set(static_cast<unsigned char>("0123456789abcdef"[c & 15]));
    }
    std::vector<int32_t> escaped;
    if (names.any()) escaped.push_back(b_.Byte(names, next));
    for (size_t i = 0; i < hex.size(); ++i) {
      if (hex[i].any()) escaped.push_back(b_.Literal(i == 0 ? "u000" : "u001", b_.Byte(hex[i], next)));
    }
    if (!escaped.empty()) ways->push_back(b_.Literal("\\", b_.Split(std::move(escaped))));
  }

  // A range of characters as sequences of ranges of bytes.
  void Utf8(CharSet::Range range, int32_t next, std::vector<int32_t>* ways) {
    constexpr std::array<char32_t, 4> kLastOfLength = {0x7f, 0x7ff, 0xffff, 0x10ffff};
    for (size_t length = 0; length < kLastOfLength.size() && range.first <= range.second; ++length) {
      const char32_t last = std::min(range.second, kLastOfLength[length]);
      if (range.first > last) continue;
      SameLength({range.first, last}, static_cast<int>(length) + 1, next, ways);
      range.first = last + 1;
    }
  }

  // Splits until all but the first differing byte run over all of their values.
  void SameLength(CharSet::Range range, int length, int32_t next, std::vector<int32_t>* ways) {
    for (int i = 1; i < length; ++i) {
      const char32_t low = (char32_t{1} << (6 * i)) - 1;
      if ((range.first & ~low) == (range.second & ~low)) continue;
      if ((range.first & low) != 0) {
        SameLength({range.first, range.first | low}, length, next, ways);
        return SameLength({(range.first | low) + 1, range.second}, length, next, ways);
      }
      if ((range.second & low) != low) {
        SameLength({range.first, (range.second & ~low) - 1}, length, next, ways);
        return SameLength({range.second & ~low, range.second}, length, next, ways);
      }
    }
    int32_t at = next;
    for (int i = 0; i < length - 1; ++i) {
      at = Byte(0x80 | ((range.first >> (6 * i)) & 0x3f), 0x80 | ((range.second >> (6 * i)) & 0x3f), at);
    }
    constexpr std::array<char32_t, 5> kLead = {0, 0, 0xc0, 0xe0, 0xf0};
    const char32_t lead = kLead[static_cast<size_t>(length)];
    const int shift = 6 * (length - 1);
    ways->push_back(Byte(lead | (range.first >> shift), lead | (range.second >> shift), at));
  }

  // The same bytes before the same node are the same node.
  int32_t Byte(char32_t first, char32_t last, int32_t next) {
    const auto [known, fresh] = bytes_.try_emplace({first, last, next}, -1);
    if (fresh) known->second = b_.Byte(BytesBetween(static_cast<int>(first), static_cast<int>(last)), next);
    return known->second;
  }

  GrammarBuilder& b_;
  const Dfa& dfa_;
  const bool json_;
  const int32_t end_;
  std::vector<int32_t> nodes_, placeholders_;  // by state; -1: not yet
  std::map<std::tuple<char32_t, char32_t, int32_t>, int32_t> bytes_;
};

}  // namespace

int32_t JsonStringsOf(GrammarBuilder* builder, const Dfa& dfa, int32_t next) {
  const int32_t close = builder->Literal("\"", next);
  return builder->Literal("\"", Writer(builder, dfa, /*json=*/true, close).Write());
}

int32_t PlainTextOf(GrammarBuilder* builder, const Dfa& dfa, int32_t next) {
  return Writer(builder, dfa, /*json=*/false, next).Write();
}

}  // namespace fulger
