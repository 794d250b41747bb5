// For tests of grammars: schemas over a vocabulary of all bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "coordinator/grammar/grammar_matcher.h"
#include "coordinator/grammar/json_grammar.h"
#include "coordinator/grammar/token_trie.h"

namespace fulger {

inline absl::StatusOr<Grammar> CompileSchema(const std::string& schema) {
  GrammarBuilder builder;
  JsonGrammar json(&builder);
  ASSIGN_OR_RETURN(const int32_t start, json.Schema(schema, "schema", builder.end()));
  return std::move(builder).Finish(start);
}

// The bytes as the vocabulary.
inline const TokenTrie& ByteTrie() {
  static const std::vector<std::string>* tokens = [] {
    auto* made = new std::vector<std::string>;
    for (int byte = 0; byte < 256; ++byte) made->emplace_back(1, static_cast<char>(byte));
    return made;
  }();
  static const std::vector<std::string_view> views(tokens->begin(), tokens->end());
  static const TokenTrie trie(views);
  return trie;
}

inline bool Accepts(GrammarMatcher* matcher, const std::string& text) {
  const auto start = matcher->Start();
  if (!start.ok()) return false;
  const auto at = matcher->Advance(*start, text);
  return at.ok() && matcher->MayEnd(*at);
}

}  // namespace fulger
