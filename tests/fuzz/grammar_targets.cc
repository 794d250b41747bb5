#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/check.h"
#include "coordinator/grammar/grammar_matcher.h"
#include "coordinator/grammar/json_grammar.h"
#include "coordinator/grammar/token_trie.h"
#include "tests/fuzz/fuzz_target.h"

namespace fulger {
namespace {

constexpr int kMostBytes = 400;

const TokenTrie& ByteVocabulary() {
  static const std::vector<std::string>* const bytes = [] {
    auto* made = new std::vector<std::string>;
    for (int byte = 0; byte < 256; ++byte) made->emplace_back(1, static_cast<char>(byte));
    return made;
  }();
  static const std::vector<std::string_view> views(bytes->begin(), bytes->end());
  static const TokenTrie trie(views);
  return trie;
}

bool TooMuch(const absl::Status& status) {
  return Message(status).find("too many ways") != std::string::npos;
}

// Numbers beyond a double's range are JSON, although this parser has no place for them.
bool IsJson(const std::string& text) {
  try {
    return !nlohmann::json::parse(text).is_discarded();
  } catch (const nlohmann::json::out_of_range&) {
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

// Writes what the grammar allows, at random: there is always a way on, and what has ended is JSON.
void Walk(std::string_view schema, GrammarMatcher* matcher, uint64_t random) {
  auto state = matcher->Start();
  FULGER_CHECK(state.ok() || TooMuch(state.status()), "{}", Message(state.status()));
  std::string text;
  while (state.ok() && std::ssize(text) < kMostBytes) {
    random = random * 6364136223846793005U + 1442695040888963407U;
    if (matcher->MayEnd(*state)) {
      FULGER_CHECK(IsJson(text), "not JSON: {}, by {}", text, schema);
      if ((random >> 40) % 4 == 0) return;
    }
    const auto mask = matcher->MaskOf(*state);
    if (!mask.ok() && TooMuch(mask.status())) return;
    FULGER_CHECK(mask.ok() || matcher->MayEnd(*state), "no way on behind {}: {}", text,
                 Message(mask.status()));
    if (!mask.ok()) return;
    std::vector<char> allowed;
    for (int byte = 0; byte < 256; ++byte) {
      const auto bits = static_cast<unsigned char>((*mask)->bits[static_cast<size_t>(byte) / 8]);
      if ((bits >> (byte % 8) & 1) != 0) allowed.push_back(static_cast<char>(byte));
    }
    if (allowed.empty()) return;
    text.push_back(allowed[(random >> 33) % allowed.size()]);
    state = matcher->Advance(*state, text.substr(text.size() - 1));
    FULGER_CHECK(state.ok() || TooMuch(state.status()), "{} behind {}", Message(state.status()), text);
  }
}

}  // namespace

void FuzzJsonSchema(std::string_view bytes) {
  GrammarBuilder builder;
  JsonGrammar json(&builder);
  const absl::StatusOr<int32_t> start = json.Schema(bytes, "schema", builder.end());
  if (!start.ok()) {
    FULGER_CHECK(start.status().code() == absl::StatusCode::kInvalidArgument, "{}", Message(start.status()));
    return;
  }
  absl::StatusOr<Grammar> grammar = std::move(builder).Finish(*start);
  if (!grammar.ok()) return;
  GrammarMatcher matcher(*std::move(grammar), &ByteVocabulary(), {});
  for (uint64_t walk = 1; walk <= 3 && !matcher.full(); ++walk) Walk(bytes, &matcher, walk * bytes.size());
}

}  // namespace fulger
