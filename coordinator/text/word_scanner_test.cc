// The scanners against the expressions that they stand for, on text made to be awkward.
#include "coordinator/text/word_scanner.h"

#include <gtest/gtest.h>

#include <random>

#include "coordinator/text/pre_tokenizer_test_util.h"
#include "coordinator/text/utf8.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::ElementsAre;

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kO200k =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

std::vector<std::string> Words(std::string_view pattern, std::string_view text) {
  const std::optional<WordScanner> scanner = WordScanner::For(pattern);
  std::vector<std::string> words;
  size_t begin = 0;
  for (const uint32_t end : CutByScanner(*scanner, text)) {
    words.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

TEST(WordScanner, KnowsExpressionsByTheirSpellingAlone) {
  EXPECT_TRUE(WordScanner::For(kGpt2).has_value());
  EXPECT_TRUE(WordScanner::For(kO200k).has_value());
  EXPECT_FALSE(WordScanner::For("").has_value());
  EXPECT_FALSE(WordScanner::For("\\s+").has_value());
  EXPECT_FALSE(WordScanner::For(kO200k.substr(1)).has_value());
}

TEST(WordScanner, Examples) {
  EXPECT_THAT(Words(kGpt2, "I'll  go, 1234 times\n\n now"),
              ElementsAre("I", "'ll", " ", " go", ",", " 1234", " times", "\n\n", " now"));
  EXPECT_THAT(Words(kO200k, "I'LL  goHome, 1234\n\n now (XMLHttp)//\n"),
              ElementsAre("I'LL", " ", " go", "Home", ",", " ", "123", "4", "\n\n", " now", " (", "XMLHttp",
                          ")//\n"));
  EXPECT_THAT(Words(kO200k, "x \n  "), ElementsAre("x", " \n", "  "));
  EXPECT_TRUE(Words(kO200k, "").empty());
}

class Differential : public testing::TestWithParam<std::string_view> {};

// Few kinds of characters next to each other in every order: what two engines could read differently is in
// the order, not in the amount.
TEST_P(Differential, RandomText) {
  ASSERT_OK_AND_ASSIGN(const SplitRegex regex, SplitRegex::Compile(GetParam()));
  const std::optional<WordScanner> scanner = WordScanner::For(GetParam());
  ASSERT_TRUE(scanner.has_value());
  const std::vector<std::string> pieces = {
      "a",          "B",          "s",       "S",      "t",      "re",     "LL",     "'",
      "'s",         "'VE",        " ",       "  ",     "\n",     "\r",     "\t",     "\v",
      "/",          "1",          "23",      "!",      "-",      "_",      "\u00a0", "\u2028",
      "\u0301",     "\u017f",     "'\u017f", "\u00e9", "\u00c9", "\u01c5", "\u02b0", "\u4f60",
      "\u0663",     "\u2167",     "\u00bd",  "\u20ac", "\u180e", "\u0897", "\u1c89", std::string(1, '\0'),
      "\U0001F600", "\U00010D50", "\u0130"};
  std::mt19937 rng(7);
  for (int round = 0; round < 30000; ++round) {
    std::string text;
    const size_t kinds = 1 + rng() % 8;
    std::vector<std::string> chosen;
    for (size_t i = 0; i < kinds; ++i) chosen.push_back(pieces[rng() % pieces.size()]);
    for (size_t length = 1 + rng() % 14; length > 0; --length) text += chosen[rng() % kinds];
    ASSERT_EQ(CutByScanner(*scanner, text), CutByRegex(regex, text)) << testing::PrintToString(text);
  }
}

TEST_P(Differential, RandomCodePoints) {
  ASSERT_OK_AND_ASSIGN(const SplitRegex regex, SplitRegex::Compile(GetParam()));
  const std::optional<WordScanner> scanner = WordScanner::For(GetParam());
  std::mt19937 rng(11);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    const uint32_t limit = rng() % 2 == 0 ? 0x3000 : 0x20000;
    for (int i = 0; i < 60; ++i) {
      const auto c = static_cast<uint32_t>(rng() % limit);
      if (c < 0xD800 || c >= 0xE000) AppendUtf8(rng() % 3 == 0 ? c % 0x80 : c, &text);
    }
    ASSERT_EQ(CutByScanner(*scanner, text), CutByRegex(regex, text)) << testing::PrintToString(text);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, Differential, testing::Values(kGpt2, kO200k),
                         [](const auto& family) { return family.param == kGpt2 ? "gpt2" : "o200k"; });

}  // namespace
}  // namespace fulger
