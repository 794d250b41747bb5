#include "coordinator/grammar/token_trie.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

namespace fulger {

TokenTrie::TokenTrie(std::span<const std::string_view> tokens) : vocabulary_(std::ssize(tokens)) {
  std::vector<int32_t> order(tokens.size());
  std::iota(order.begin(), order.end(), 0);
  const auto text = [&](int32_t id) { return tokens[static_cast<size_t>(id)]; };
  std::ranges::stable_sort(order, {}, text);
  std::vector<uint32_t> open;  // the nodes of the last token's bytes
  std::string_view last;
  const auto close = [&](size_t depth) {
    while (open.size() > depth) {
      nodes_[open.back()].skip = static_cast<uint32_t>(nodes_.size());
      open.pop_back();
    }
  };
  for (const int32_t id : order) {
    const std::string_view bytes = text(id);
    if (bytes.empty() || bytes.size() > std::numeric_limits<uint16_t>::max()) continue;
    if (bytes == last) {
      Node& node = nodes_[open.back()];
      twins_.emplace_back(id, node.twin);
      node.twin = static_cast<int32_t>(twins_.size()) - 1;
      continue;
    }
    const auto shared = static_cast<size_t>(std::ranges::mismatch(bytes, last).in1 - bytes.begin());
    close(shared);
    for (size_t d = shared; d < bytes.size(); ++d) {
      open.push_back(static_cast<uint32_t>(nodes_.size()));
      nodes_.push_back({.depth = static_cast<uint16_t>(d), .byte = static_cast<unsigned char>(bytes[d])});
    }
    nodes_.back().token = id;
    max_depth_ = std::max(max_depth_, bytes.size());
    last = bytes;
  }
  close(0);
}

}  // namespace fulger
