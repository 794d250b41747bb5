#include "coordinator/blocks/prefix_tree.h"

#include <algorithm>
#include <utility>

namespace fulger {

int64_t PrefixTree::CommonLength(std::span<const Symbol> a, std::span<const Symbol> b) {
  const size_t n = std::min(a.size(), b.size());
  return std::mismatch(a.begin(), a.begin() + static_cast<int64_t>(n), b.begin()).first - a.begin();
}

const PrefixTree::Node* PrefixTree::Child(const Node& node, Symbol first) {
  const auto it = node.children.find(first);
  return it == node.children.end() ? nullptr : it->second.get();
}

PrefixTree::Node* PrefixTree::Add(Node* parent, std::span<const Symbol> run) {
  auto node = std::make_unique<Node>();
  node->parent = parent;
  node->run.assign(run.begin(), run.end());
  node->end = parent->end + static_cast<int64_t>(run.size());
  symbols_ += static_cast<int64_t>(run.size());
  Node* added = node.get();
  parent->children[run.front()] = std::move(node);
  return added;
}

// A new node takes the first `at` symbols of the run; `node` stays where it ends, below it.
PrefixTree::Node* PrefixTree::Split(Node* node, int64_t at) {
  std::unique_ptr<Node>& place = node->parent->children[node->run.front()];
  auto upper = std::make_unique<Node>();
  upper->parent = node->parent;
  upper->run.assign(node->run.begin(), node->run.begin() + at);
  upper->end = node->parent->end + at;
  node->run.erase(node->run.begin(), node->run.begin() + at);
  node->parent = upper.get();
  upper->children[node->run.front()] = std::move(place);
  place = std::move(upper);
  return place.get();
}

PrefixTree::Node* PrefixTree::Make(std::span<const Symbol> symbols) {
  Node* node = &root_;
  while (!symbols.empty()) {
    const auto it = node->children.find(symbols.front());
    if (it == node->children.end()) return Add(node, symbols);
    Node* child = it->second.get();
    const int64_t common = CommonLength(symbols, child->run);
    node = common == static_cast<int64_t>(child->run.size()) ? child : Split(child, common);
    symbols = symbols.subspan(static_cast<size_t>(common));
  }
  return node;
}

void PrefixTree::Settle(Node* node) {
  while (node != &root_ && node->anchor == nullptr && node->promises == 0 && !node->remembered &&
         node->children.empty()) {
    Node* parent = node->parent;
    symbols_ -= static_cast<int64_t>(node->run.size());
    parent->children.erase(node->run.front());
    node = parent;
  }
}

void PrefixTree::Recall(Node* node) {
  if (node->remembered) remembered_.erase(node->memory);
  node->remembered = false;
}

void PrefixTree::Remember(Node* node) {
  Recall(node);
  node->remembered = true;
  node->memory = remembered_.insert(remembered_.end(), node);
  while (symbols_ > memory_ && !remembered_.empty()) {
    Node* oldest = remembered_.front();
    remembered_.pop_front();
    oldest->remembered = false;
    Settle(oldest);
  }
}

}  // namespace fulger
