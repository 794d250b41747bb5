#include "coordinator/api/tool_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fulger {
namespace {

struct Call {
  std::string name, arguments;
};
struct Parsed {
  std::string text;
  std::vector<Call> calls;
};

// What comes out when `text` goes in cut into pieces of `step` bytes.
Parsed ParseInSteps(std::string_view text, size_t step) {
  ToolCallParser parser;
  Parsed all;
  const auto add = [&](const ToolCallParser::Output& out) {
    all.text += out.text;
    for (const ToolCallDelta& delta : out.calls) {
      if (delta.name.empty()) {
        ASSERT_EQ(delta.index + 1, std::ssize(all.calls)) << "pieces of a call follow its name";
      } else {
        ASSERT_EQ(delta.index, std::ssize(all.calls));
        all.calls.push_back({.name = delta.name, .arguments = {}});
      }
      all.calls.back().arguments += delta.arguments;
    }
  };
  for (size_t i = 0; i < text.size(); i += step) add(parser.Push(text.substr(i, step)));
  add(parser.Flush());
  return all;
}

class Cuts : public ::testing::TestWithParam<size_t> {};
INSTANTIATE_TEST_SUITE_P(Steps, Cuts, ::testing::Values(1, 2, 3, 7, 1000));

TEST_P(Cuts, OneCall) {
  const Parsed out = ParseInSteps(
      "Let me see.\n```typescript\nfunctions.weather({\"city\": \"Cluj)\\\"\"})\n```", GetParam());
  EXPECT_EQ(out.text, "Let me see.\n");
  ASSERT_EQ(out.calls.size(), 1);
  EXPECT_EQ(out.calls[0].name, "weather");
  EXPECT_EQ(out.calls[0].arguments, "{\"city\": \"Cluj)\\\"\"}");
}

TEST_P(Cuts, SeveralCallsInOneAndTwoFences) {
  const Parsed out = ParseInSteps(
      "```typescript\nfunctions.a({})\nfunctions.b({\"x\":[1,{\"y\":2}]})\n```and\n```"
      "typescript\nfunctions.c()\n```",
      GetParam());
  EXPECT_EQ(out.text, "and\n");
  ASSERT_EQ(out.calls.size(), 3);
  EXPECT_EQ(out.calls[1].arguments, "{\"x\":[1,{\"y\":2}]}");
  EXPECT_EQ(out.calls[2].arguments, "{}");
}

TEST_P(Cuts, OtherFencesAreText) {
  for (const char* text :
       {"```typescript\nconst a = 1;\n```", "```\nfunctions.a({})\n```", "``` ``",
        "```typescript\nfunctions.a b({})\n``` rest", "```typescript\nfunctions.({})\n```",
        "```typescript\nfunctions.abc", "<function_call> alone", "<function_call>```typescript"}) {
    const Parsed out = ParseInSteps(text, GetParam());
    EXPECT_EQ(out.text, text);
    EXPECT_TRUE(out.calls.empty());
  }
  EXPECT_TRUE(ParseInSteps("```typescript\nfunctions." + std::string(200, 'a') + "({})\n```", GetParam())
                  .calls.empty());
}

// The control token is text where special tokens are not skipped.
TEST_P(Cuts, TheControlTokenGoesWithTheCall) {
  const Parsed out = ParseInSteps("A<function_call>```typescript\nfunctions.a({})\n```B", GetParam());
  EXPECT_EQ(out.text, "AB");
  EXPECT_EQ(out.calls.size(), 1);
}

// What the model wrote is handed on: whether it is JSON is for the client to find.
TEST_P(Cuts, ArgumentsThatAreNoJson) {
  for (const auto& [written, arguments] :
       std::vector<std::pair<std::string, std::string>>{{"not json", "not json"},
                                                        {" {\"a\": 1,\n } ", "{\"a\": 1,\n }"},
                                                        {"}]x", "}]x"},
                                                        {"f(1), [2", "f(1), [2)\n```"},
                                                        {"\"a)\\\")\"", "\"a)\\\")\""},
                                                        {"  ", "{}"}}) {
    const Parsed out = ParseInSteps("```typescript\nfunctions.a(" + written + ")\n```", GetParam());
    EXPECT_EQ(out.text, "");
    ASSERT_EQ(out.calls.size(), 1) << written;
    EXPECT_EQ(out.calls[0].arguments, arguments);
  }
}

TEST_P(Cuts, TextBehindACallIsText) {
  const Parsed out = ParseInSteps("```typescript\nfunctions.a({}) + 1\n```", GetParam());
  EXPECT_EQ(out.text, " + 1\n```");
  EXPECT_EQ(out.calls.size(), 1);
}

TEST_P(Cuts, WhatIsBegunAtTheEndIsACall) {
  for (const char* end : {"", ")", ")\n``"}) {
    const Parsed out = ParseInSteps(std::string("```typescript\nfunctions.a({\"b\":1}") + end, GetParam());
    EXPECT_EQ(out.text, "");
    ASSERT_EQ(out.calls.size(), 1);
    EXPECT_EQ(out.calls[0].name, "a");
    EXPECT_EQ(out.calls[0].arguments, "{\"b\":1}");
  }
}

TEST(ToolCalls, ArgumentsComeAsTheyAreWritten) {
  ToolCallParser parser;
  EXPECT_TRUE(parser.Push("```typescript\nfunctions.a").calls.empty());
  auto out = parser.Push("b({\"x\"");
  ASSERT_EQ(out.calls.size(), 1);
  EXPECT_EQ(out.calls[0].name, "ab");
  EXPECT_EQ(out.calls[0].arguments, "{\"x\"");
  out = parser.Push(":1}");
  ASSERT_EQ(out.calls.size(), 1);
  EXPECT_EQ(out.calls[0].name, "");
  EXPECT_EQ(out.calls[0].arguments, ":1}");
  EXPECT_EQ(parser.complete(), 0);
  EXPECT_TRUE(parser.Push(")").calls.empty());
  EXPECT_EQ(parser.complete(), 1);
}

TEST(ToolCalls, PlainTextIsNotHeldBack) {
  ToolCallParser parser;
  EXPECT_EQ(parser.Push("hello `world` ").text, "hello `world` ");
  EXPECT_EQ(parser.Push("a``").text, "a");
  EXPECT_EQ(parser.Push("b").text, "``b");
}

}  // namespace
}  // namespace fulger
