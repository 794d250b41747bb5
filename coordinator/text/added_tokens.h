// Finds added tokens in raw text the way Hugging Face tokenizers does: two passes (normalized = false first,
// then normalized = true in what is left), each leftmost and longest, matches never overlapping; lstrip and
// rstrip draw in the white space beside a match. Immutable, thread-safe.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fulger {

struct AddedToken {
  int32_t id = -1;
  std::string content;
  bool special = false;
  bool lstrip = false;
  bool rstrip = false;
  bool normalized = false;
};

// A stretch of text: an added token (id >= 0) or ordinary text (id < 0).
struct TextSpan {
  int32_t id;
  size_t begin;
  size_t end;
};

class AddedTokenMatcher {
 public:
  explicit AddedTokenMatcher(const std::vector<AddedToken>& tokens);
  // Appends the spans of `text` in order; empty ones are left out. `text` must be valid UTF-8.
  void Split(std::string_view text, std::vector<TextSpan>* spans) const;

 private:
  // A trie over bytes. Children of a node are a linked list; the root has a table.
  class Trie {
   public:
    Trie() { root_.fill(-1); }
    void Add(std::string_view content, int32_t token);
    bool empty() const { return nodes_.empty(); }
    bool CanBegin(char byte) const { return root_[static_cast<uint8_t>(byte)] >= 0; }
    // The longest token at the head of `text`: its index and length, or -1.
    struct Match {
      int32_t token;
      size_t length;
    };
    Match Longest(std::string_view text) const;

   private:
    struct Node {
      uint8_t byte;
      int32_t token = -1;
      int32_t child = -1;
      int32_t sibling = -1;
    };
    int32_t Child(int32_t node, uint8_t byte) const;
    std::array<int32_t, 256> root_;
    std::vector<Node> nodes_;
  };

  void Pass(const Trie& trie, std::string_view text, TextSpan within, std::vector<TextSpan>* spans) const;

  std::vector<AddedToken> tokens_;
  Trie raw_;
  Trie normalized_;
};

}  // namespace fulger
