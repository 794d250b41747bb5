#include "coordinator/text/added_tokens.h"

#include <algorithm>

#include "coordinator/text/utf8.h"

namespace fulger {
namespace {

// Unicode's White_Space.
bool IsSpace(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

// Where the white space that ends at `end` begins, not before `floor`.
size_t SpaceBefore(std::string_view text, size_t end, size_t floor) {
  while (end > floor) {
    size_t begin = end - 1;
    while (begin > floor && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
    if (!IsSpace(DecodeUtf8(text.data() + begin, end - begin))) break;
    end = begin;
  }
  return end;
}

size_t SpaceAfter(std::string_view text, size_t begin, size_t end) {
  while (begin < end) {
    const size_t length = ReadUtf8Head(text.substr(begin, end - begin)).length;
    if (!IsSpace(DecodeUtf8(text.data() + begin, length))) break;
    begin += length;
  }
  return begin;
}

}  // namespace

int32_t AddedTokenMatcher::Trie::Child(int32_t node, uint8_t byte) const {
  int32_t child = nodes_[static_cast<size_t>(node)].child;
  while (child >= 0 && nodes_[static_cast<size_t>(child)].byte != byte)
    child = nodes_[static_cast<size_t>(child)].sibling;
  return child;
}

void AddedTokenMatcher::Trie::Add(std::string_view content, int32_t token) {
  int32_t node = -1;
  for (const char c : content) {
    const auto byte = static_cast<uint8_t>(c);
    int32_t next = node < 0 ? root_[byte] : Child(node, byte);
    if (next < 0) {
      next = static_cast<int32_t>(nodes_.size());
      nodes_.push_back({.byte = byte});
      if (node < 0) {
        root_[byte] = next;
      } else {
        nodes_.back().sibling = nodes_[static_cast<size_t>(node)].child;
        nodes_[static_cast<size_t>(node)].child = next;
      }
    }
    node = next;
  }
  if (node >= 0) nodes_[static_cast<size_t>(node)].token = token;
}

AddedTokenMatcher::Trie::Match AddedTokenMatcher::Trie::Longest(std::string_view text) const {
  Match best{-1, 0};
  int32_t node = -1;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    node = i == 0 ? root_[byte] : Child(node, byte);
    if (node < 0) break;
    if (nodes_[static_cast<size_t>(node)].token >= 0) best = {nodes_[static_cast<size_t>(node)].token, i + 1};
  }
  return best;
}

AddedTokenMatcher::AddedTokenMatcher(const std::vector<AddedToken>& tokens) : tokens_(tokens) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    (tokens_[i].normalized ? normalized_ : raw_).Add(tokens_[i].content, static_cast<int32_t>(i));
  }
}

void AddedTokenMatcher::Pass(const Trie& trie, std::string_view text, TextSpan within,
                             std::vector<TextSpan>* spans) const {
  size_t done = within.begin;  // everything before is in `spans`
  for (size_t at = within.begin; !trie.empty() && at < within.end;) {
    if (!trie.CanBegin(text[at])) {
      ++at;
      continue;
    }
    const Trie::Match match = trie.Longest(text.substr(at, within.end - at));
    if (match.token < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(match.token)];
    size_t begin = at;
    size_t end = at + match.length;
    at = end;
    if (token.lstrip) begin = std::max(SpaceBefore(text, begin, within.begin), done);
    if (token.rstrip) end = SpaceAfter(text, end, within.end);
    if (done < begin) spans->push_back({-1, done, begin});
    spans->push_back({token.id, begin, end});
    done = end;
  }
  if (done < within.end) spans->push_back({-1, done, within.end});
}

void AddedTokenMatcher::Split(std::string_view text, std::vector<TextSpan>* spans) const {
  const TextSpan all{-1, 0, text.size()};
  if (normalized_.empty()) return Pass(raw_, text, all, spans);
  std::vector<TextSpan> first;
  Pass(raw_, text, all, &first);
  for (const TextSpan& span : first) {
    if (span.id >= 0) {
      spans->push_back(span);
    } else {
      Pass(normalized_, text, span, spans);
    }
  }
}

}  // namespace fulger
