#include "coordinator/api/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fulger {
namespace {

// What comes out when `text` goes in cut into pieces of `step` bytes.
ToolCallParser::Output ParseInSteps(std::string_view text, size_t step) {
  ToolCallParser parser;
  ToolCallParser::Output all;
  const auto add = [&](ToolCallParser::Output out) {
    all.text += out.text;
    all.calls.insert(all.calls.end(), out.calls.begin(), out.calls.end());
  };
  for (size_t i = 0; i < text.size(); i += step) add(parser.Push(text.substr(i, step)));
  add(parser.Flush());
  return all;
}

class Cuts : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Steps, Cuts, ::testing::Values(1, 2, 3, 7, 1000));

TEST_P(Cuts, OneCall) {
  const auto out = ParseInSteps(
      "Let me see.\n```typescript\nfunctions.weather({\"city\": \"Cluj)\\\"\"})\n```", GetParam());
  EXPECT_EQ(out.text, "Let me see.\n");
  ASSERT_EQ(out.calls.size(), 1);
  EXPECT_EQ(out.calls[0].name, "weather");
  EXPECT_EQ(out.calls[0].arguments, "{\"city\": \"Cluj)\\\"\"}");
}

TEST_P(Cuts, SeveralCallsInOneAndTwoFences) {
  const auto out = ParseInSteps(
      "```typescript\nfunctions.a({})\nfunctions.b({\"x\":[1,{\"y\":2}]})\n```and\n```"
      "typescript\nfunctions.c()\n```",
      GetParam());
  EXPECT_EQ(out.text, "and\n");
  ASSERT_EQ(out.calls.size(), 3);
  EXPECT_EQ(out.calls[1].arguments, "{\"x\":[1,{\"y\":2}]}");
  EXPECT_EQ(out.calls[2].arguments, "{}");
}

TEST_P(Cuts, OtherFencesAreText) {
  for (const char* text : {"```typescript\nconst a = 1;\n```", "```\nfunctions.a({})\n```", "``` ``",
                           "```typescript\nfunctions.a(not json)\n``` rest",
                           "```typescript\nfunctions.a({}) + 1\n```", "```typescript\nfunctions.a({}"}) {
    const auto out = ParseInSteps(text, GetParam());
    EXPECT_EQ(out.text, text);
    EXPECT_TRUE(out.calls.empty());
  }
}

TEST_P(Cuts, AnUnclosedFenceAtTheEndIsACall) {
  const auto out = ParseInSteps("```typescript\nfunctions.a({\"b\":1})", GetParam());
  EXPECT_EQ(out.text, "");
  ASSERT_EQ(out.calls.size(), 1);
  EXPECT_EQ(out.calls[0].name, "a");
}

TEST(ToolCalls, PlainTextIsNotHeldBack) {
  ToolCallParser parser;
  EXPECT_EQ(parser.Push("hello `world` ").text, "hello `world` ");
  EXPECT_EQ(parser.Push("a``").text, "a");
  EXPECT_EQ(parser.Push("b").text, "``b");
}

}  // namespace
}  // namespace fulger
