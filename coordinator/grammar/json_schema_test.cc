// What schemas allow, byte by byte, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "coordinator/frontend/field_error.h"
#include "coordinator/grammar/grammar_test_util.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using testing::HasSubstr;

struct Case {
  std::string schema;
  std::vector<std::string> good, bad;
};

TEST(JsonSchemaTest, AcceptsAndRefuses) {
  const std::vector<Case> cases = {
      {R"({"type":"string"})",
       {R"("")", R"("a b")", R"("\n\"\\\u00e9")", "\"\xc3\xa9\xf0\x9f\x98\x80\""},
       {"", "\"", "a", "\"a\nb\"", R"("\x")", R"("\ud83d")", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"",
        R"("a" )"}},
      {R"({"type":"integer"})", {"0", "-0", "7", "-120"}, {"", "-", "01", "1.0", "1e3", "+1"}},
      {R"({"type":"number"})",
       {"0", "-1.5", "1e9", "2.50E-07", "10"},
       {"1e999", ".5", "1.", "1e", "01.5", "NaN"}},
      {R"({"type":["boolean","null"]})", {"true", "false", "null"}, {"tru", "True", "0"}},
      {R"({"type":["number","integer"]})", {"1", "1.5"}, {"\"1\""}},
      {R"({"enum":["a",1,null,{"b":[1,2]}]})",
       {R"("a")", "1", "null", R"({"b":[1,2]})"},
       {"a", "2", R"({"b":[1, 2]})"}},
      {R"({"type":"string","enum":["a",1]})", {R"("a")"}, {"1"}},
      {R"({"const":"\u00e9\n"})", {"\"\xc3\xa9\\n\""}, {"\"e\""}},
      {R"({"type":"string","minLength":1,"maxLength":3})",
       {R"("a")", R"("abc")", "\"\xc3\xa9\\n\\u0041\""},
       {R"("")", R"("abcd")", "\"\xc3\xa9\\n\\u0041x\""}},
      {R"({"type":"string","minLength":2})", {R"("ab")", R"("abcdefg")"}, {R"("a")"}},
      {R"({"type":"array","items":{"type":"integer"}})",
       {"[]", "[1]", "[1,2, 3]", "[\n  1,\n  2\n]", "[ ]"},
       {"[1,]", "[,1]", "[1 ,2]", "[1.5]", "[1", "[  ]"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":3})",
       {"[1,2]", "[1,2,3]"},
       {"[]", "[1]", "[1,2,3,4]"}},
      {R"({"type":"array","items":{"type":"integer"},"minItems":2})", {"[1,2]", "[1,2,3,4]"}, {"[]", "[1]"}},
      {R"({"type":"array","items":{"type":"integer"},"maxItems":1})", {"[]", "[1]"}, {"[1,2]"}},
      {R"({"type":"array","maxItems":0})", {"[]"}, {"[1]"}},
      {R"({"minItems":1})", {R"(["a",{}])"}, {"[]", "1"}},
      // Properties come in the schema's order; those not required may be missing.
      {R"({"type":"object","properties":{"z":{"type":"integer"},"a":{"type":"null"},"m":{}},"required":["a"]})",
       {R"({"a":null})", R"({"z":1,"a":null})", R"({"a": null, "m": [1, {"x": "y"}]})",
        "{\n  \"z\": 1,\n  \"a\": null,\n  \"m\": 2\n}"},
       {"{}", R"({"z":1})", R"({"a":null,"z":1})", R"({"a":null,"b":1})", R"({"z":1.5,"a":null})",
        R"({"a":null,})"}},
      {R"({"properties":{"x":{"type":"integer"},"y":{"type":"integer"}}})",
       {"{}", R"({"x":1})", R"({"y":1})", R"({"x":1,"y":2})"},
       {"1", R"({"y":1,"x":2})", R"({,"y":1})"}},
      {R"({"type":"object","required":["k"]})", {R"({"k":[1]})"}, {"{}", R"({"j":1})"}},
      {R"({"type":"object"})", {"{}", R"({"a":{"b":[true,"x"]}})"}, {"[]", "{a:1}", R"({"a":1,})"}},
      {R"({"type":"object","additionalProperties":{"type":"integer"}})",
       {"{}", R"({"a":1,"b":2})"},
       {R"({"a":"b"})"}},
      {R"({"type":"object","additionalProperties":false})", {"{}"}, {R"({"a":1})"}},
      {R"({"anyOf":[{"type":"integer"},{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]}]})",
       {"5", R"({"a":"b"})"},
       {"\"5\"", "{}"}},
      {R"({"allOf":[{"type":"null"}]})", {"null"}, {"1"}},
      {R"({"type":"object","properties":{"v":{"$ref":"#/$defs/V"},"next":{"anyOf":[{"type":"null"},{"$ref":"#"}]}},
           "required":["v","next"],"$defs":{"V":{"type":"integer"}}})",
       {R"({"v":1,"next":null})", R"({"v":1,"next":{"v":2,"next":{"v":3,"next":null}}})"},
       {R"({"v":1})", R"({"v":1,"next":{"v":2}})"}},
      {R"({"properties":{"a/b":{"type":"null"},"c":{"$ref":"#/properties/a~1b"}},"required":["c"]})",
       {R"({"a/b":null,"c":null})"},
       {R"({"c":1})"}},
      {"{}", {"1", "\"a\"", "[[],{}]", "null"}, {"", "nul"}},
      {"true", {"1"}, {""}},
      {R"({"title":"T","description":"D","default":1,"examples":[1],"type":"null"})", {"null"}, {"1"}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.schema);
    absl::StatusOr<Grammar> grammar = CompileSchema(c.schema);
    ASSERT_OK(grammar.status());
    GrammarMatcher matcher(*std::move(grammar), &ByteTrie(), {});
    for (const std::string& text : c.good) EXPECT_TRUE(Accepts(&matcher, text)) << text;
    for (const std::string& text : c.bad) EXPECT_FALSE(Accepts(&matcher, text)) << text;
  }
}

TEST(JsonSchemaTest, RefusedByName) {
  const std::vector<std::array<std::string, 3>> cases = {
      {R"({"type":"string","pattern":3})", "schema.pattern", "expected a string"},
      {R"x({"type":"string","pattern":"a(?=b)"})x", "schema.pattern", "position 4: look-ahead"},
      {R"({"type":"string","pattern":"(a)\\1"})", "schema.pattern", "position 4: back references"},
      {R"({"type":"string","pattern":"(a|b)*a(a|b){20}"})", "schema.pattern", "too large"},
      {R"({"type":"string","pattern":"((a{1,300}){300}){300}"})", "schema.pattern", "too large"},
      {R"({"type":"string","pattern":"^.*a.{60}$","minLength":2000})", "schema.pattern", "too large"},
      {R"x({"type":"string","pattern":"^(ab|cde|fghi)*$","minLength":4000})x", "schema.minLength",
       "too large"},
      {R"({"type":"object","properties":{"a":{"type":"string","format":"iri"}}})",
       "schema.properties.a.format", "expected one of date, date-time"},
      {R"({"type":"integer","minimum":"3"})", "schema.minimum", "expected a number"},
      {R"({"type":"integer","minimum":1e300})", "schema.minimum", "more than 40 digits"},
      {R"({"type":"integer","exclusiveMinimum":true})", "schema.exclusiveMinimum", "expected a number"},
      {R"({"type":"integer","multipleOf":0})", "schema.multipleOf", "above 0"},
      {R"({"type":"integer","multipleOf":123457})", "schema.multipleOf", "more than 1000 steps"},
      {R"({"oneOf":[]})", "schema.oneOf", "expected a list of schemas"},
      {R"({"oneOf":[{"type":"integer"},{"type":"string"},{"type":"number"}]})", "schema.oneOf",
       "members 0 and 2"},
      {R"({"oneOf":[{"type":"null"},{"type":"null"}]})", "schema.oneOf", "members 0 and 1"},
      {R"({"oneOf":[{"type":"object"},{"type":"object","required":["a"]}]})", "schema.oneOf",
       "tell them apart"},
      {R"({"not":{}})", "schema.not", "written from what it may be"},
      {R"({"allOf":[{"minimum":1},{"not":{"const":3}}]})", "schema.allOf[1].not", "not supported"},
      {R"({"type":"object","patternProperties":[]})", "schema.patternProperties", "expected an object"},
      {R"x({"type":"object","patternProperties":{"a(?=b)":{}}})x", "schema.patternProperties.a(?=b)",
       "position 4: look-ahead"},
      {R"({"patternProperties":{"^x":{"not":{}}}})", "schema.patternProperties.^x.not", "not supported"},
      {R"({"type":"array","uniqueItems":true})", "schema.uniqueItems", "listed by enum or const"},
      {R"({"type":"array","uniqueItems":true,"items":{"type":"integer"}})", "schema.uniqueItems", "listed"},
      {R"({"uniqueItems":true,"items":{"anyOf":[{"const":1},{"const":2}]}})", "schema.uniqueItems", "listed"},
      {R"({"uniqueItems":true,"items":{"enum":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]}})",
       "schema.uniqueItems", "2000 sets"},
      {R"({"uniqueItems":true,"items":{"enum":[1,2]},"prefixItems":[{}]})", "schema.uniqueItems",
       "not together with prefixItems"},
      {R"({"uniqueItems":1})", "schema.uniqueItems", "true or false"},
      {R"({"type":"array","prefixItems":{}})", "schema.prefixItems", "list of schemas"},
      {R"({"type":"array","items":[{}]})", "schema.items", "called prefixItems"},
      {R"({"type":"object","unevaluatedProperties":false})", "schema.unevaluatedProperties", "not supported"},
      {R"({"enum":[[1]],"minItems":1})", "schema.minItems", "not together with objects or arrays"},
      {R"({"$ref":"#/$defs/x"})", "schema.$ref", "in this schema"},
      {R"({"$ref":"http://example.com/s"})", "schema.$ref", "in this schema"},
      {R"({"$ref":"#/~7"})", "schema.$ref", "in this schema"},
      {R"({"allOf":[]})", "schema.allOf", "list of schemas"},
      {R"({"allOf":[{"type":"integer","minimum":1},{"$ref":"#/$defs/x"}],"$defs":{"x":{"minimum":"2"}}})",
       "schema/$defs/x.minimum", "expected a number"},
      {R"({"allOf":[{"required":["a"]},{"additionalProperties":false}]})", "schema.allOf[0].required",
       "required and forbidden"},
      {R"({"type":"text"})", "schema.type", "\"text\""},
      {R"({"type":[]})", "schema.type", "empty"},
      {R"({"type":"string","maxLength":100000})", "schema.maxLength", "4096"},
      {R"({"type":"string","minLength":-1})", "schema.minLength", "whole number"},
      {R"({"type":"string","minLength":3,"maxLength":2})", "schema.minLength", "more than maxLength"},
      {R"({"enum":3})", "schema.enum", "list"},
      {R"({"properties":3})", "schema.properties", "object"},
      {R"({"properties":{"a":3}})", "schema.properties.a", "object or a boolean"},
      {R"({"required":["x"],"additionalProperties":false})", "schema.required", "required and forbidden"},
      {"3", "schema", "object or a boolean"},
      {"{", "schema", "not JSON"},
  };
  for (const auto& [schema, field, words] : cases) {
    SCOPED_TRACE(schema);
    const absl::Status status = CompileSchema(schema).status();
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(words)));
    EXPECT_EQ(FieldOf(status), field);
  }
}

TEST(JsonSchemaTest, WhatNothingSatisfiesIsRefused) {
  for (
      const char* schema :
      {"false",
       R"({"type":"integer","minimum":3,"maximum":2})",
       R"({"type":"integer","minimum":0.1,"maximum":0.9})",
       R"({"type":"number","exclusiveMinimum":2,"exclusiveMaximum":2})",
       R"({"type":"string","pattern":"a^"})",
       R"({"type":"string","pattern":"^.{5}$","maxLength":3})",
       R"({"type":"string","pattern":"x","format":"ipv4"})",
       R"({"type":"integer","multipleOf":10,"minimum":1,"maximum":9})",
       R"({"$ref":"#"})",
       R"({"enum":[]})",
       R"({"type":"null","const":1})",
       R"({"allOf":[{"type":"null"},{"type":"string"}]})",
       R"({"allOf":[{"minLength":3},{"maxLength":2}],"type":"string"})",
       R"({"allOf":[{"$ref":"#"}]})",
       R"({"allOf":[true,false]})",
       R"({"allOf":[{"enum":[1,2]},{"enum":[3]}]})",
       R"({"prefixItems":[{"type":"null"},false],"minItems":2})",
       R"({"items":{"enum":[1,2]},"uniqueItems":true,"minItems":3})",
       R"({"anyOf":[{"$ref":"#"},{"allOf":[{"$ref":"#"}]}]})",
       R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})",
       R"({"type":"array","items":false,"minItems":1})",
       R"({"anyOf":[{"$ref":"#/$defs/x"}],"$defs":{"x":{"type":"array","items":{"$ref":"#/$defs/x"},"minItems":2}}})"}) {
    EXPECT_THAT(CompileSchema(schema).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("nothing can satisfy")))
        << schema;
  }
}

// Schemas that say little and mean much: refused, or followed, but never for long. The bound is on work, not
// on time.
TEST(JsonSchemaTest, ExplosionsAreBounded) {
  // Twice as many ways with every level.
  std::string doubling = R"({"$ref":"#/$defs/d60","$defs":{"d0":{"type":"null"})";
  for (int i = 1; i <= 60; ++i) {
    doubling += fmt::format(R"(,"d{0}":{{"anyOf":[{{"type":"array","items":{{"$ref":"#/$defs/d{1}"}}}},)"
                            R"({{"type":"array","items":{{"$ref":"#/$defs/d{1}"}},"minItems":1}}]}})",
                            i, i - 1);
  }
  doubling += "}}";
  ASSERT_OK_AND_ASSIGN(Grammar grammar, CompileSchema(doubling));
  GrammarMatcher matcher(std::move(grammar), &ByteTrie(), {});
  auto at = matcher.Start();
  ASSERT_OK(at.status());
  absl::Status status;
  for (int i = 0; i < 60 && status.ok(); ++i) {
    at = matcher.Advance(*at, "[");
    status = at.status();
  }
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too many ways")));
  EXPECT_TRUE(matcher.full());

  // Counters: each is fine, together they are not.
  EXPECT_OK(CompileSchema(R"({"type":"string","maxLength":4096})").status());
  std::string large = R"({"type":"object","properties":{)";
  for (int i = 0; i < 60; ++i)
    large += fmt::format(R"({}"p{}":{{"type":"string","maxLength":4096}})", i > 0 ? "," : "", i);
  EXPECT_THAT(CompileSchema(large + "}}").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too large")));

  // Choices times choices, and references that meet in ever new company.
  std::string product = R"({"allOf":[)";
  for (int i = 0; i < 40; ++i)
    product +=
        fmt::format(R"({}{{"anyOf":[{{"minLength":{}}},{{"maxLength":{}}}]}})", i > 0 ? "," : "", i, 90 - i);
  EXPECT_THAT(CompileSchema(product + "]}").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too large")));
  std::string cycles = R"({"allOf":[)", definitions;
  for (const int length : {2, 3, 5, 7, 11, 13}) {
    cycles += fmt::format(R"({}{{"$ref":"#/$defs/c{}_0"}})", length > 2 ? "," : "", length);
    for (int i = 0; i < length; ++i) {
      definitions += fmt::format(R"({}"c{}_{}":{{"properties":{{"n":{{"$ref":"#/$defs/c{}_{}"}}}}}})",
                                 definitions.empty() ? "" : ",", length, i, length, (i + 1) % length);
    }
  }
  EXPECT_THAT(CompileSchema(cycles + R"(],"$defs":{)" + definitions + "}}").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("too large")));
  std::string deep;  // twice the members with every level
  for (int i = 1; i <= 60; ++i)
    deep +=
        fmt::format(R"(,"a{0}":{{"allOf":[{{"$ref":"#/$defs/a{1}"}},{{"$ref":"#/$defs/a{1}"}}]}})", i, i - 1);
  EXPECT_OK(CompileSchema(R"({"$ref":"#/$defs/a60","$defs":{"a0":{"type":"null"})" + deep + "}}").status());

  // Expressions as well: what they may cost is counted over the whole schema.
  const auto with_patterns = [](int n) {
    std::string schema = R"({"type":"object","properties":{)";
    for (int i = 0; i < n; ++i) {
      schema +=
          fmt::format(R"({}"p{}":{{"type":"string","pattern":"^[ab]*a[ab]{{9}}$"}})", i > 0 ? "," : "", i);
    }
    return schema + "}}";
  };
  EXPECT_OK(CompileSchema(with_patterns(3)).status());
  const absl::Status refused = CompileSchema(with_patterns(1000)).status();
  EXPECT_THAT(refused, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("take too long to make")));
  EXPECT_THAT(*FieldOf(refused), testing::MatchesRegex("schema.properties.p[0-9]+.pattern"));
}

// Nesting ends where the end could no longer be reached.
TEST(JsonSchemaTest, NestingIsBounded) {
  ASSERT_OK_AND_ASSIGN(Grammar grammar, CompileSchema("{}"));
  GrammarMatcher matcher(std::move(grammar), &ByteTrie(), {});
  auto at = matcher.Start();
  int depth = 0;
  while (true) {
    const auto deeper = matcher.Advance(*at, "[");
    if (!deeper.ok()) break;
    at = deeper;
    ASSERT_LT(++depth, 1000);
  }
  EXPECT_GT(depth, 30);
  ASSERT_OK_AND_ASSIGN(const auto closed, matcher.Advance(*at, std::string(static_cast<size_t>(depth), ']')));
  EXPECT_TRUE(matcher.MayEnd(closed));
}

}  // namespace
}  // namespace fulger
