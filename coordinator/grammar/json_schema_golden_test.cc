// What jsonschema (PyPI) says of thousands of texts: tests/golden/grammar.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "coordinator/grammar/grammar_test_util.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

TEST(JsonSchemaGoldenTest, WritesNothingThatIsInvalid) {
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile("tests/golden/grammar/cases.json"));
  const auto cases = nlohmann::ordered_json::parse(text);
  ASSERT_GT(cases.size(), 40u);
  for (const auto& c : cases) {
    SCOPED_TRACE(c["schema"].dump());
    absl::StatusOr<Grammar> grammar = CompileSchema(c["schema"].dump());
    ASSERT_OK(grammar.status());
    GrammarMatcher matcher(*std::move(grammar), &ByteTrie(), {});
    for (const auto& must : c["must"]) EXPECT_TRUE(Accepts(&matcher, must)) << must;
    for (const auto& never : c["never"]) EXPECT_FALSE(Accepts(&matcher, never)) << never;
  }
}

}  // namespace
}  // namespace fulger
