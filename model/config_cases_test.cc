// The config.json files under tests/golden/model/data/configs, written from the schemas' description and not
// by any parser: every model in both schemas, patches that must be refused, patches that change nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "base/file.h"
#include "model/config.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

const std::string kFolder = "tests/golden/model/data/configs/";

json Read(const std::string& file) {
  absl::StatusOr<std::string> text = ReadFile(kFolder + file);
  EXPECT_OK(text.status());
  return json::parse(text.ok() ? *text : "{}");
}

absl::StatusOr<ModelConfig> Patched(const json& entry) {
  json config = Read(entry.at("base"));
  config.merge_patch(entry.at("patch"));  // null removes a key
  return ParseModelConfig(config.dump());
}

TEST(ConfigCases, BothSchemasAreTheSameModel) {
  for (const std::string model : {"g0", "g1", "g2", "g3", "g4", "g5", "g6", "demo", "released"}) {
    SCOPED_TRACE(model);
    ASSERT_OK_AND_ASSIGN(const ModelConfig legacy, ParseModelConfig(Read(model + ".json").dump()));
    ASSERT_OK_AND_ASSIGN(const ModelConfig native, ParseModelConfig(Read(model + "_native.json").dump()));
    EXPECT_FALSE(legacy.native_schema);
    EXPECT_TRUE(native.native_schema);
    EXPECT_TRUE(legacy == native);
    EXPECT_EQ(legacy.vision.has_value(), model != "g3" && model != "g4");
  }
}

TEST(ConfigCases, TheReleasedFileIsTheReleasedModel) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig parsed, ParseModelConfig(Read("released.json").dump()));
  EXPECT_TRUE(parsed == ReleasedVl01Config());
}

TEST(ConfigCases, BadPatchesAreRefusedByKey) {
  const json cases = Read("bad.json");
  ASSERT_GT(cases.size(), 10);
  for (const json& entry : cases) {
    SCOPED_TRACE(entry.at("name"));
    EXPECT_THAT(Patched(entry).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(entry.at("key").get<std::string>())));
  }
}

TEST(ConfigCases, HarmlessPatchesChangeNothing) {
  const json cases = Read("same.json");
  ASSERT_GT(cases.size(), 3);
  for (const json& entry : cases) {
    SCOPED_TRACE(entry.at("name"));
    ASSERT_OK_AND_ASSIGN(const ModelConfig base, ParseModelConfig(Read(entry.at("base")).dump()));
    ASSERT_OK_AND_ASSIGN(const ModelConfig patched, Patched(entry));
    EXPECT_TRUE(base == patched);
  }
}

}  // namespace
}  // namespace fulger
