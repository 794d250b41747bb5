// A radix tree of prefixes. Exact: it compares content, no hash decides, so a match can never be a wrong one,
// and where a prefix stops matching is known to the position.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "coordinator/blocks/prefix.h"

namespace fulger {

struct Anchor;

// Thread-compatible (the engine thread).
class PrefixTree {
 public:
  struct Node {
    Node* parent = nullptr;
    std::vector<Symbol> run;  // the edge from the parent
    int64_t end = 0;          // symbols from the root to here
    std::map<Symbol, std::unique_ptr<Node>> children;
    Anchor* anchor = nullptr;  // owned by AnchorCache
    int32_t promises = 0;      // running sequences that will save an anchor here
    bool remembered = false;   // had an anchor that is gone: kept for a while to say so
    std::list<Node*>::iterator memory;
  };

  // Keeps up to `memory` symbols for the sake of explanations alone.
  explicit PrefixTree(int64_t memory) : memory_(memory) {}
  PrefixTree(const PrefixTree&) = delete;
  PrefixTree& operator=(const PrefixTree&) = delete;

  // The node that ends exactly after `symbols`, made where there is none. It lives while it has an anchor,
  // promises or a memory: after changing any of those call Settle.
  Node* Make(std::span<const Symbol> symbols);
  // Drops the node, and those above, that nothing needs any more.
  void Settle(Node* node);
  // The anchor at `node` is gone: says so for a while. Settles what is forgotten instead, perhaps the node.
  void Remember(Node* node);
  // It has one again.
  void Recall(Node* node);

  // Calls `visit(node)` for the nodes on the path of `symbols`, from the root down; returns how many leading
  // symbols the tree knows.
  template <typename Visit>
  int64_t Walk(std::span<const Symbol> symbols, Visit visit) const {
    const Node* node = &root_;
    int64_t matched = 0;
    while (true) {
      const auto rest = symbols.subspan(static_cast<size_t>(matched));
      const Node* child = rest.empty() ? nullptr : Child(*node, rest.front());
      if (child == nullptr) return matched;
      const int64_t common = CommonLength(rest, child->run);
      matched += common;
      if (common < static_cast<int64_t>(child->run.size())) return matched;
      visit(*child);
      node = child;
    }
  }
  int64_t symbols() const { return symbols_; }

 private:
  static int64_t CommonLength(std::span<const Symbol> a, std::span<const Symbol> b);
  static const Node* Child(const Node& node, Symbol first);
  Node* Add(Node* parent, std::span<const Symbol> run);
  Node* Split(Node* node, int64_t at);

  const int64_t memory_;
  Node root_;
  int64_t symbols_ = 0;
  std::list<Node*> remembered_;  // the oldest is first
};

}  // namespace fulger
