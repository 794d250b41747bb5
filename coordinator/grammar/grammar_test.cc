// The token automaton: masks against a reference that tries every token by itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/answer_forms.h"
#include "coordinator/grammar/grammar_matcher.h"
#include "coordinator/grammar/json_grammar.h"
#include "coordinator/grammar/token_trie.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;

bool Allows(const TokenMask& mask, int32_t id) {
  return (static_cast<unsigned char>(mask.bits[static_cast<size_t>(id) / 8]) >> (id % 8) & 1) != 0;
}

std::vector<std::string_view> Views(const std::vector<std::string>& tokens) {
  return {tokens.begin(), tokens.end()};
}

TEST(TokenTrieTest, EveryTokenOnceInDepthFirstOrder) {
  const std::vector<std::string> tokens = {"b",   "", "ab", "a", "abc", "b", std::string("\xff\x00", 2),
                                           "abd", "b"};
  const TokenTrie trie(Views(tokens));
  std::vector<int32_t> found;
  std::string path;
  for (size_t i = 0; i < trie.nodes().size(); ++i) {
    const TokenTrie::Node& node = trie.nodes()[i];
    path.resize(node.depth);
    path.push_back(static_cast<char>(node.byte));
    EXPECT_GT(node.skip, i);
    EXPECT_LE(node.skip, trie.nodes().size());
    if (node.token >= 0) {
      EXPECT_EQ(path, tokens[static_cast<size_t>(node.token)]);
      found.push_back(node.token);
    }
    for (int32_t twin = node.twin; twin >= 0; twin = trie.twins()[static_cast<size_t>(twin)].second) {
      const int32_t token = trie.twins()[static_cast<size_t>(twin)].first;
      EXPECT_EQ(path, tokens[static_cast<size_t>(token)]);
      found.push_back(token);
    }
  }
  EXPECT_THAT(found, testing::UnorderedElementsAre(0, 2, 3, 4, 5, 6, 7, 8));
  EXPECT_EQ(trie.max_depth(), 3u);
  EXPECT_EQ(trie.vocabulary(), 9);
}

// All single bytes, so that everything can be spelled, and many JSON-like pieces.
std::vector<std::string> JsonVocabulary() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  const std::vector<std::string> bits = {"{",  "}", "[", "]", "\"",   ",",  ":",       " ",
                                         "\n", "a", "1", "-", "true", "\\", "\xc3\xa9"};
  for (const auto& a : bits) {
    for (const auto& b : bits) {
      tokens.push_back(a + b);
      for (const auto& c : bits) tokens.push_back(a + b + c);
    }
  }
  tokens.emplace_back("");  // a special token
  return tokens;
}

class AnswerFormsTest : public testing::Test {
 protected:
  AnswerFormsTest() : tokens_(JsonVocabulary()), end_(static_cast<int32_t>(tokens_.size()) - 1) {}
  AnswerVocabulary Vocabulary() {
    return {.size = std::ssize(tokens_),
            .bytes = [this](int32_t id) { return std::string_view(tokens_[static_cast<size_t>(id)]); },
            .end_ids = {end_},
            .call_id = {}};
  }
  // Draws allowed tokens at random until the end is drawn; then the text.
  std::string Write(AnswerForms* forms, const AnswerForm& form, uint64_t seed, int most = 4000) {
    std::mt19937_64 random(seed);
    auto begin = forms->Start(form);
    EXPECT_OK(begin.status());
    if (!begin.ok()) return {};
    std::shared_ptr<const TokenMask> mask = begin->first_mask;
    std::string text;
    for (int n = 0; n < most; ++n) {
      std::vector<int32_t> allowed;
      for (int32_t id = 0; id < std::ssize(tokens_); ++id) {
        if (Allows(*mask, id)) allowed.push_back(id);
      }
      EXPECT_FALSE(allowed.empty());
      // Closing things is favoured, so that texts end.
      int32_t id = allowed[random() % allowed.size()];
      for (int tries = 0;
           tries < 6 && tokens_[static_cast<size_t>(id)].find_first_of("}]\"") == std::string::npos;
           ++tries) {
        id = allowed[random() % allowed.size()];
      }
      if (Allows(*mask, end_)) id = end_;
      if (id == end_) return text;
      text += tokens_[static_cast<size_t>(id)];
      auto next = begin->constraint->Advance(id);
      EXPECT_TRUE(next.ok()) << text;
      if (!next.ok()) return text;
      mask = *next;
    }
    return text;
  }

  const std::vector<std::string> tokens_;
  const int32_t end_;
};

// A token is allowed exactly where each of its bytes, one after the other, is.
TEST_F(AnswerFormsTest, MasksAreWhatSingleTokensSay) {
  GrammarBuilder builder;
  JsonGrammar json(&builder);
  const int32_t start = json.AnyObject(builder.end());
  ASSERT_OK_AND_ASSIGN(Grammar grammar, std::move(builder).Finish(start));
  const TokenTrie trie(Views(tokens_));
  GrammarMatcher matcher(std::move(grammar), &trie, {end_});
  ASSERT_OK_AND_ASSIGN(const GrammarMatcher::State begin, matcher.Start());
  for (const std::string prefix : {"", "{", "{\"", "{\"a\\", "{\"a\"", "{\"a\":", "{\"a\":[", "{\"a\":[1",
                                   "{\"a\":[1,{\"\xc3", "{\"a\":{}", "{\"a\":{}}"}) {
    ASSERT_OK_AND_ASSIGN(const GrammarMatcher::State at, matcher.Advance(begin, prefix));
    ASSERT_OK_AND_ASSIGN(const auto mask, matcher.MaskOf(at));
    for (int32_t id = 0; id + 1 < std::ssize(tokens_); ++id) {
      EXPECT_EQ(Allows(*mask, id), matcher.Advance(at, tokens_[static_cast<size_t>(id)]).ok())
          << prefix << " + " << tokens_[static_cast<size_t>(id)];
    }
    EXPECT_EQ(Allows(*mask, end_), prefix == "{\"a\":{}}") << prefix;
  }
}

TEST_F(AnswerFormsTest, TheSamePlaceHasTheSameMask) {
  AnswerForms forms(Vocabulary());
  ASSERT_OK_AND_ASSIGN(const auto a, forms.Start({.kind = AnswerForm::Kind::kJsonObject}));
  ASSERT_OK_AND_ASSIGN(const auto b, forms.Start({.kind = AnswerForm::Kind::kJsonObject}));
  EXPECT_EQ(a.first_mask->id, b.first_mask->id);
  EXPECT_EQ(a.first_mask->bits.size(), (tokens_.size() + 7) / 8);
  // Inside a string it does not matter how long the string is.
  for (const char byte : std::string("{\"aaaa")) {
    ASSERT_OK_AND_ASSIGN(const auto mask, a.constraint->Advance(static_cast<unsigned char>(byte)));
  }
  ASSERT_OK_AND_ASSIGN(const auto longer, a.constraint->Advance('b'));
  ASSERT_OK_AND_ASSIGN(const auto longest, a.constraint->Advance('b'));
  EXPECT_EQ(longer->id, longest->id);
}

TEST_F(AnswerFormsTest, CallsOfTools) {
  AnswerForms forms(Vocabulary());
  AnswerForm form{
      .kind = AnswerForm::Kind::kToolCalls,
      .tools = {{.name = "f",
                 .schema = R"({"type":"object","properties":{"a":{"enum":[1]}},"required":["a"]})",
                 .field = "tools[0]"},
                {.name = "g"}},
      .several = false};
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const std::string text = Write(&forms, form, seed);
    EXPECT_TRUE(text.starts_with("```typescript\nfunctions.f({") ||
                text.starts_with("```typescript\nfunctions.g({"))
        << text;
    EXPECT_TRUE(text.ends_with("})\n```")) << text;
  }
  // Text may come first, and need not lead to a call.
  form.text = true;
  ASSERT_OK_AND_ASSIGN(const auto begin, forms.Start(form));
  EXPECT_TRUE(Allows(*begin.first_mask, end_));
  EXPECT_TRUE(Allows(*begin.first_mask, 'x'));
  EXPECT_TRUE(Allows(*begin.first_mask, '`'));
  EXPECT_FALSE(Allows(*begin.first_mask, 0xff));
}

TEST_F(AnswerFormsTest, TheControlTokenOpensACall) {
  AnswerVocabulary vocabulary = Vocabulary();
  vocabulary.call_id = 300;
  AnswerForms forms(std::move(vocabulary));
  AnswerForm form{
      .kind = AnswerForm::Kind::kToolCalls, .tools = {{.name = "f"}}, .several = true, .text = true};
  ASSERT_OK_AND_ASSIGN(const auto begin, forms.Start(form));
  EXPECT_TRUE(Allows(*begin.first_mask, 300));
  EXPECT_TRUE(Allows(*begin.first_mask, '`'));
  ASSERT_OK_AND_ASSIGN(auto mask, begin.constraint->Advance(300));
  EXPECT_TRUE(Allows(*mask, '`'));
  EXPECT_FALSE(Allows(*mask, 'x'));
  EXPECT_FALSE(Allows(*mask, end_));
  form.text = false;
  ASSERT_OK_AND_ASSIGN(const auto required, forms.Start(form));
  for (int32_t id = 0; id < std::ssize(tokens_); ++id)
    EXPECT_EQ(Allows(*required.first_mask, id), id == 300) << id;
}

}  // namespace
}  // namespace fulger
