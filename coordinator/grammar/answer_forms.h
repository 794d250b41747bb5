// From what an answer must look like to the engine's view of it: which tokens may come next.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "coordinator/engine/types.h"
#include "coordinator/frontend/answer_form.h"
#include "coordinator/grammar/grammar_matcher.h"
#include "coordinator/grammar/token_trie.h"

namespace fulger {

// What is needed of the tokenizer.
struct AnswerVocabulary {
  int64_t size = 0;                                   // of the model
  std::function<std::string_view(int32_t id)> bytes;  // empty: never text
  std::vector<int32_t> end_ids;                       // any of them ends an answer
  std::optional<int32_t> call_id;                     // <function_call>, in front of a call
};

// Thread-safe. Keeps what was found out of the last forms, for the next answers of the same form.
class AnswerForms {
 public:
  explicit AnswerForms(AnswerVocabulary vocabulary) : vocabulary_(std::move(vocabulary)) {}

  struct Begin {
    std::shared_ptr<TokenConstraint> constraint;
    std::shared_ptr<const TokenMask> first_mask;
  };
  // INVALID_ARGUMENT with the field at fault. Takes up to tens of milliseconds for a new form.
  absl::StatusOr<Begin> Start(const AnswerForm& form);

 private:
  static constexpr size_t kKept = 64;
  using Entry = std::pair<std::string, std::shared_ptr<GrammarMatcher>>;

  absl::StatusOr<Grammar> Build(const AnswerForm& form) const;
  absl::StatusOr<std::shared_ptr<GrammarMatcher>> Matcher(const AnswerForm& form);

  const AnswerVocabulary vocabulary_;
  std::once_flag trie_made_;
  std::shared_ptr<const TokenTrie> trie_;
  std::mutex mu_;
  std::list<Entry> recent_;  // the last used is first
};

}  // namespace fulger
