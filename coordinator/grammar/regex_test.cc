// Expressions against std::regex's ECMAScript over all short strings, and what is refused.
#include "coordinator/grammar/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

std::vector<std::string> AllStrings(std::string_view alphabet, size_t longest) {
  std::vector<std::string> all = {""};
  for (size_t begin = 0, length = 0; length < longest; ++length) {
    const size_t end = all.size();
    for (; begin < end; ++begin) {
      for (const char c : alphabet) all.push_back(all[begin] + c);
    }
  }
  return all;
}

TEST(RegexTest, AgreesWithTheStandardLibraryOnAllShortStrings) {
  const std::vector<std::string> texts = AllStrings("ab-", 6);
  for (const std::string expression : {"",
                                       "a",
                                       "^a",
                                       "a$",
                                       "^a$",
                                       "ab|b-",
                                       "^(a|b-)*$",
                                       "a{2}",
                                       "^a{0,2}b{1,}$",
                                       "^(ab?){2,3}$",
                                       "[^a]$",
                                       "^[a-b]+$",
                                       "^\\w*$",
                                       "^\\W|^a$",
                                       "(^a|b$)-",
                                       "^(a*b)*?$",
                                       "a+?b?\?-",
                                       "^$|^--",
                                       "(?:ab)+$",
                                       "((a|b)-){2}",
                                       "^(?:^a|-b)$",
                                       "a\\-b",
                                       "[-a]{3}",
                                       "[a\\-]b",
                                       "^.{3}$",
                                       "(a|ab)(-|b-)",
                                       "^(a|b|-){4}$",
                                       "b^a",
                                       "a$b",
                                       "()",
                                       "^(a()b)+$"}) {
    SCOPED_TRACE(expression);
    WorkBudget budget;
    ASSERT_OK_AND_ASSIGN(const Dfa dfa, CompileSearch(expression, &budget));
    const std::regex reference(expression, std::regex::ECMAScript);
    int found = 0;
    for (const std::string& text : texts) {
      const bool expected = std::regex_search(text, reference);
      found += expected ? 1 : 0;
      ASSERT_EQ(dfa.Accepts(std::u32string(text.begin(), text.end())), expected) << '"' << text << '"';
    }
    const bool empty = expression == "b^a" || expression == "a$b";
    EXPECT_EQ(found == 0, empty);
  }
}

TEST(RegexTest, CharactersBeyondAscii) {
  const Dfa dfa = CompileWhole("[\\u00e0-\\u{1F600}]\\ud83d\\ude00.");
  EXPECT_TRUE(dfa.Accepts(U"\u4e00\U0001f600x"));
  EXPECT_FALSE(dfa.Accepts(U"\u00df\U0001f600x"));
  EXPECT_FALSE(dfa.Accepts(U"\u4e00\U0001f600\n"));  // no line ends for "."
}

TEST(RegexTest, ShapesThatTakeOthersForEverTakeNoTime) {
  WorkBudget budget{.steps = 5000};
  for (const char* expression :
       {"(a+)+$", "^(a|a)*$", "^(a|aa)+$", "(.*a){12}", "^(([a-z])+.)+[A-Z]([a-z])+$"}) {
    SCOPED_TRACE(expression);
    EXPECT_OK(CompileSearch(expression, &budget).status());
  }
}

TEST(RegexTest, RefusedWithThePlace) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"(", "position 2: a \"(\" without its \")\""},
      {"a)", "position 2: a \")\" without its \"(\""},
      {"[a", "position 3: a \"[\" without"},
      {"a]", "position 2: a \"]\" without"},
      {"*a", "position 1: nothing to repeat"},
      {"a**", "position 3: a repetition of a repetition"},
      {"a{3,2}", "3 is more than 2"},
      {"a{x}", "position 3: expected a number"},
      {"a{5000}", "more than 4096 repetitions"},
      {"^*", "position 2: ^ and $ cannot be repeated"},
      {"[b-a]", "upside down"},
      {"[\\d-z]", "a character at both ends"},
      {"\\", "a backslash at the end"},
      {"\\q", "\"\\q\" is not supported"},
      {"\\b", "\"\\b\" is not supported"},
      {"\\p{L}", "\"\\p\" is not supported"},
      {"(a)\\1", "back references"},
      {"(?!a)", "look-ahead"},
      {"(?<=a)", "this kind of group"},
      {"(?<n", "name does not end"},
      {"\\u{110000}", "no such character"},
      {"\\x1", "2 hexadecimal digits"},
      {std::string(100, '('), "nested more than 64 deep"},
  };
  for (const auto& [expression, words] : cases) {
    WorkBudget budget;
    EXPECT_THAT(CompileSearch(expression, &budget).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, testing::HasSubstr(words)))
        << expression;
  }
}

}  // namespace
}  // namespace fulger
