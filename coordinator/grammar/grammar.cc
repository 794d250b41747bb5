#include "coordinator/grammar/grammar.h"

#include <algorithm>
#include <utility>

namespace fulger {

ByteSet BytesBetween(int first, int last) {
  ByteSet set;
  for (int byte = first; byte <= last; ++byte) set.set(static_cast<size_t>(byte));
  return set;
}

GrammarBuilder::GrammarBuilder() { Add({.kind = GrammarNode::Kind::kReturn}); }

int32_t GrammarBuilder::Add(GrammarNode node) {
  if (full()) return 0;  // Finish says so
  grammar_.nodes.push_back(std::move(node));
  return static_cast<int32_t>(grammar_.nodes.size()) - 1;
}

int32_t GrammarBuilder::Byte(const ByteSet& set, int32_t next) {
  const auto [known, fresh] = set_index_.try_emplace(set, static_cast<int32_t>(grammar_.sets.size()));
  if (fresh) grammar_.sets.push_back(set);
  return Add({.kind = GrammarNode::Kind::kBytes, .next = next, .set = known->second});
}

int32_t GrammarBuilder::Literal(std::string_view bytes, int32_t next) {
  for (size_t i = bytes.size(); i-- > 0;) {
    const int byte = static_cast<unsigned char>(bytes[i]);
    next = Byte(BytesBetween(byte, byte), next);
  }
  return next;
}

int32_t GrammarBuilder::Split(std::vector<int32_t> targets) {
  if (targets.size() == 1) return targets[0];
  return Add({.kind = GrammarNode::Kind::kSplit, .targets = std::move(targets)});
}

int32_t GrammarBuilder::Call(int32_t rule, int32_t next) {
  return Add({.kind = GrammarNode::Kind::kCall, .next = next, .rule = rule});
}

int32_t GrammarBuilder::Placeholder() { return Add({.kind = GrammarNode::Kind::kSplit}); }

void GrammarBuilder::Fill(int32_t placeholder, int32_t target) {
  if (placeholder != 0) grammar_.nodes[static_cast<size_t>(placeholder)].targets.push_back(target);
}

namespace {

int32_t DepthNeeded(const GrammarNode& node, const std::vector<int32_t>& needed) {
  const auto of = [&](int32_t i) { return needed[static_cast<size_t>(i)]; };
  switch (node.kind) {
    case GrammarNode::Kind::kReturn:
      return 0;
    case GrammarNode::Kind::kBytes:
      return of(node.next);
    case GrammarNode::Kind::kCall:
      return std::min(Grammar::kNever, std::max(1 + of(node.rule), of(node.next)));
    case GrammarNode::Kind::kSplit:
      break;
  }
  int32_t least = Grammar::kNever;
  for (const int32_t target : node.targets) least = std::min(least, of(target));
  return least;
}

}  // namespace

// depth_needed falls to its fixed point. A node's successors mostly have smaller numbers, so few rounds do; a
// way that goes deeper than kMaxDepth is none.
absl::StatusOr<Grammar> GrammarBuilder::Finish(int32_t start) && {
  if (full()) return InvalidArgument("too large: it needs more than {} nodes", kMaxNodes);
  grammar_.start = start;
  std::vector<int32_t>& needed = grammar_.depth_needed;
  needed.assign(grammar_.nodes.size(), Grammar::kNever);
  bool changed = true;
  for (int round = 0; changed && round < 4 * Grammar::kMaxDepth; ++round) {
    changed = false;
    for (size_t i = 0; i < needed.size(); ++i) {
      const int32_t now = DepthNeeded(grammar_.nodes[i], needed);
      changed = changed || now < needed[i];
      needed[i] = std::min(needed[i], now);
    }
  }
  if (needed[static_cast<size_t>(start)] > Grammar::kMaxDepth) {
    return InvalidArgument("nothing can satisfy it, or only what is nested more than {} deep",
                           Grammar::kMaxDepth);
  }
  return std::move(grammar_);
}

}  // namespace fulger
