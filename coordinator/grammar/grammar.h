// A grammar over bytes, as a network of nodes that may call one another: what an answer must look like. Made
// by GrammarBuilder, run by GrammarMatcher.
#pragma once

#include <bitset>
#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/status.h"

namespace fulger {

using ByteSet = std::bitset<256>;
ByteSet BytesBetween(int first, int last);

// Beyond text: stands for the control token that opens a call of a tool. No byte of UTF-8.
inline constexpr char kCallMark = '\xff';

struct GrammarNode {
  enum class Kind : uint8_t {
    kBytes,   // one byte of `set`, then `next`
    kSplit,   // any of `targets`, without a byte
    kCall,    // what `rule` spells, then `next`
    kReturn,  // the end of a rule, or of the answer
  };
  Kind kind = Kind::kReturn;
  int32_t next = -1;
  int32_t rule = -1;  // kCall: the node at which the rule begins
  int32_t set = -1;   // kBytes: index of the set
  std::vector<int32_t> targets;
};

// Immutable.
struct Grammar {
  std::vector<GrammarNode> nodes;
  std::vector<ByteSet> sets;
  int32_t start = -1;
  // By node: how many calls deep the shortest way to its rule's end goes; kNever: there is no way.
  std::vector<int32_t> depth_needed;
  static constexpr int32_t kNever = 1 << 20;
  static constexpr int32_t kMaxDepth = 96;  // calls within calls while an answer is written
};

// Grammars are built from their end: every function takes the node that follows, and returns the one to
// enter.
class GrammarBuilder {
 public:
  static constexpr size_t kMaxNodes = 200'000;

  GrammarBuilder();

  int32_t end() const { return 0; }  // the only kReturn
  int32_t Byte(const ByteSet& set, int32_t next);
  int32_t Literal(std::string_view bytes, int32_t next);
  int32_t Split(std::vector<int32_t> targets);
  int32_t Call(int32_t rule, int32_t next);
  // A node to be filled in later, for loops and recursion: it leads to `target`.
  int32_t Placeholder();
  void Fill(int32_t placeholder, int32_t target);

  bool full() const { return grammar_.nodes.size() > kMaxNodes; }
  // INVALID_ARGUMENT: nothing can be spelled by it, or it is too large.
  absl::StatusOr<Grammar> Finish(int32_t start) &&;

 private:
  int32_t Add(GrammarNode node);

  Grammar grammar_;
  std::unordered_map<ByteSet, int32_t> set_index_;
};

}  // namespace fulger
