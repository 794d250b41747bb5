// All tokens of a vocabulary by their bytes, for asking at once which of them a grammar allows.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace fulger {

// Nodes in depth-first order, so that a walk is one pass over three arrays. Immutable.
class TokenTrie {
 public:
  struct Node {
    uint32_t skip = 0;   // the node behind this one's subtree
    int32_t token = -1;  // the token that ends here, if any
    int32_t twin = -1;   // index into twins(): more tokens with these bytes
    uint16_t depth = 0;  // of its byte: the first byte of a token has depth 0
    unsigned char byte = 0;
  };

  // By id; empty: no token, or one that is never text. Longer ones than 65,535 bytes are left out.
  explicit TokenTrie(std::span<const std::string_view> tokens);

  const std::vector<Node>& nodes() const { return nodes_; }
  const std::vector<std::pair<int32_t, int32_t>>& twins() const { return twins_; }  // token, next twin
  int64_t vocabulary() const { return vocabulary_; }
  size_t max_depth() const { return max_depth_; }

 private:
  std::vector<Node> nodes_;
  std::vector<std::pair<int32_t, int32_t>> twins_;
  int64_t vocabulary_;
  size_t max_depth_ = 0;
};

}  // namespace fulger
