// Worked examples. Each expected score follows from the definition named above the test, by hand; none comes
// from our code.
#include "coordinator/eval/scorers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/eval/python_text.h"

namespace fulger {
namespace {

using ::testing::DoubleEq;
using ::testing::Optional;

const std::vector<std::string> kColours = {"red", "green", "blue", "yellow"};

// MMMU, eval_utils.py, parse_multi_choice_response: brackets first, then a letter before a space, then one
// before a full stop; the last mention wins; the option's text counts in responses of more than five words.
TEST(ParseChoice, FollowsMmmu) {
  const struct {
    const char* response;
    char letter;
  } cases[] = {
      {"B", 'B'},
      {"(C)", 'C'},
      {"The answer is (B).", 'B'},
      {"A.", 'A'},                                       // the final full stop is stripped, "A " is left
      {"B. green", 'B'},                                 // a full stop inside
      {"It is not (A), it is (D)", 'D'},                 // the last bracket
      {"(A) or B or C", 'A'},                            // brackets hide bare letters
      {"First D then B finally", 'B'},                   // the last bare letter
      {"C: blue", 'C'},                                  // neither "(C)", "C " nor "C.": see below
      {"the colour that I see there is blue", 'C'},      // the option's text
      {"it might be red but I am sure of Yellow", 'D'},  // the last text, any case
      {"'B'", 'B'},
  };
  for (const auto& c : cases) {
    if (std::string_view(c.response) == "C: blue") {
      EXPECT_EQ(ParseChoice(c.response, kColours), std::nullopt);  // two words: MMMU draws at random
      continue;
    }
    EXPECT_THAT(ParseChoice(c.response, kColours), Optional(c.letter)) << c.response;
  }
  EXPECT_EQ(ParseChoice("I do not know", kColours), std::nullopt);
  EXPECT_EQ(ParseChoice("", kColours), std::nullopt);
  // "DNA " ends in an A before a space: the authors' second search finds it, and so do we.
  EXPECT_THAT(ParseChoice("DNA is acid", {"x", "y"}), Optional('A'));
  // Found as "B." and "A.": the search for the last place looks for " B " and fails for both, so the first
  // letter wins.
  EXPECT_THAT(ParseChoice("B.A. or A.B.x", {"x", "y"}), Optional('A'));
}

// MMMU-Pro, evaluate.py: what follows the last "Answer:".
TEST(ParseFinalChoice, FollowsMmmuPro) {
  const std::vector<std::string> ten(10, "an option");
  EXPECT_THAT(ParseFinalChoice("Step 1: (A) is wrong.\nAnswer: C", ten), Optional('C'));
  EXPECT_THAT(ParseFinalChoice("Answer: B. No.\nAnswer: J", ten), Optional('J'));
  // Two letters behind it: read as MMMU reads.
  EXPECT_THAT(ParseFinalChoice("Answer: (D), not (E)", ten), Optional('E'));
  EXPECT_THAT(ParseFinalChoice("It is (F).", ten), Optional('F'));
}

// MMMU, eval_utils.py, parse_open_response and eval_open.
TEST(ScoreOpen, FollowsMmmu) {
  EXPECT_TRUE(ScoreOpen("The result is 3.14159 metres.", {"3.14"}));  // numbers are rounded to two digits
  EXPECT_FALSE(ScoreOpen("The result is 3.16", {"3.14"}));
  EXPECT_TRUE(ScoreOpen("so it costs 1,200 dollars", {"1200"}));
  EXPECT_TRUE(ScoreOpen("x = 7", {"7"}));  // "=" counts in the last line
  EXPECT_TRUE(ScoreOpen("The animal is a Red Panda", {"red panda"}));
  EXPECT_TRUE(ScoreOpen("Therefore the answer is oxygen", {"nitrogen", "oxygen"}));
  EXPECT_FALSE(ScoreOpen("The answer is helium", {"oxygen"}));
  EXPECT_FALSE(ScoreOpen("The answer is 17", {"7"}));  // no part of a number
  // A one-letter answer needs a space beside it.
  EXPECT_TRUE(ScoreOpen("it is vitamin c", {"C"}));
  EXPECT_FALSE(ScoreOpen("it is carbon", {"n"}));
}

// ChartQA: 5 % of the target's size for numbers, case-blind equality for the rest (pix2struct,
// relaxed_correctness).
TEST(RelaxedAccuracy, AllowsFivePerCent) {
  EXPECT_TRUE(RelaxedAccuracy("105", "100"));
  EXPECT_FALSE(RelaxedAccuracy("105.1", "100"));
  EXPECT_TRUE(RelaxedAccuracy("95", "100"));
  EXPECT_TRUE(RelaxedAccuracy("-95", "-100"));
  EXPECT_FALSE(RelaxedAccuracy("-100", "100"));
  EXPECT_TRUE(RelaxedAccuracy("50%", "0.51"));
  EXPECT_FALSE(RelaxedAccuracy("50", "50%"));
  EXPECT_TRUE(RelaxedAccuracy("0", "0"));
  EXPECT_FALSE(RelaxedAccuracy("0.0", "0"));  // a target of zero is compared as text
  EXPECT_TRUE(RelaxedAccuracy("Germany", "germany"));
  EXPECT_FALSE(RelaxedAccuracy("Germany.", "germany"));
  EXPECT_FALSE(RelaxedAccuracy("1,000", "1000"));  // no number to float()
}

// Biten et al., equation 1: 1 - NL below the threshold of 0.5, 0 from there on.
TEST(Anls, IsOneMinusTheNormalisedDistance) {
  EXPECT_THAT(Anls("Hello", {"hello"}), DoubleEq(1));
  EXPECT_THAT(Anls("kitten", {"sitting"}), DoubleEq(1 - 3.0 / 7));  // three edits, seven letters
  EXPECT_THAT(Anls("abcd", {"abxy"}), DoubleEq(0.5));               // 2 of 4: half is still counted
  EXPECT_THAT(Anls("abcde", {"abxyz"}), DoubleEq(0));               // 3 of 5
  EXPECT_THAT(Anls("12 June", {"june 12", "12  june "}), DoubleEq(1));
  EXPECT_THAT(Anls("", {"x"}), DoubleEq(0));
  EXPECT_THAT(Anls("na\xC3\xAFve", {"naive"}), DoubleEq(0.8));  // characters, not bytes
}

// OCRBench, example.py: the answer is part of the response; HME100k without spaces and with case.
TEST(Contains, FollowsOcrBench) {
  EXPECT_TRUE(Contains("The sign says OPEN.", {"open"}));
  EXPECT_TRUE(Contains("two\nlines", {"two lines"}));
  EXPECT_FALSE(Contains("op en", {"open"}));
  EXPECT_TRUE(Contains("x ^ 2 + y", {"x^2+y"}, /*spaces=*/false));
  EXPECT_FALSE(Contains("X^2", {"x^2"}, /*spaces=*/false));
  EXPECT_TRUE(Contains("b", {"a", "b"}));
}

// MathVista, extract_answer.py and calculate_score.py.
TEST(MathVista, TakesAnswersThatNeedNoExtractor) {
  const MathVistaQuestion integer = {.options = {}, .answer_type = "integer"};
  const MathVistaQuestion choice = {.options = {"145", "150", "no"}, .answer_type = "text"};
  EXPECT_THAT(MathVistaDirect("14", integer), Optional(std::string("14")));
  EXPECT_EQ(MathVistaDirect("14.5", integer), std::nullopt);
  EXPECT_EQ(MathVistaDirect("There are 14", integer), std::nullopt);
  EXPECT_THAT(MathVistaDirect("0.5", {.options = {}, .answer_type = "float", .precision = 1}),
              Optional(std::string("0.5")));
  EXPECT_THAT(MathVistaDirect("150", choice), Optional(std::string("150")));
  EXPECT_THAT(MathVistaDirect("So. The answer is \"7\".", integer), Optional(std::string("7")));
}

TEST(MathVista, NormalisesAsItsAuthorsDo) {
  const MathVistaQuestion choice = {.options = {"145", "150", "no"}, .answer_type = "text"};
  EXPECT_THAT(MathVistaNormalize("(b) 150", choice), Optional(std::string("150")));
  EXPECT_THAT(MathVistaNormalize("C", choice), Optional(std::string("no")));
  EXPECT_THAT(MathVistaNormalize("149", choice),
              Optional(std::string("145")));  // one edit from two: the first of them
  EXPECT_THAT(MathVistaNormalize("5.9", {.options = {}, .answer_type = "integer"}),
              Optional(std::string("5")));
  EXPECT_EQ(MathVistaNormalize("five", {.options = {}, .answer_type = "integer"}), std::nullopt);
  EXPECT_THAT(MathVistaNormalize("2", {.options = {}, .answer_type = "float", .precision = 1}),
              Optional(std::string("2.0")));
  EXPECT_THAT(MathVistaNormalize("1.254", {.options = {}, .answer_type = "float", .precision = 2}),
              Optional(std::string("1.25")));
  EXPECT_THAT(MathVistaNormalize("[1, 2]", {.options = {}, .answer_type = "list"}),
              Optional(std::string("[1, 2]")));
}

TEST(PythonText, IsPythons) {
  EXPECT_EQ(PythonFloatText(0.1), "0.1");
  EXPECT_EQ(PythonFloatText(100), "100.0");
  EXPECT_EQ(PythonFloatText(1e16), "1e+16");
  EXPECT_EQ(PythonRound(2.675, 2), 2.67);  // its binary value is below
  EXPECT_EQ(PythonFloat("0x10"), std::nullopt);
  EXPECT_EQ(PythonFloat("1e3 "), 1000.0);
  EXPECT_EQ(PythonFloat("nano"), std::nullopt);
}

}  // namespace
}  // namespace fulger
