#include "tests/golden/model/golden.h"

#include <gmock/gmock.h>

#include <bit>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "tests/golden/model/weight_formula.h"
#include "tests/support/status_matchers.h"

namespace fulger::golden {
namespace {

using testing::HasSubstr;
using Json = nlohmann::json;

Json FormulaValues() { return Json::parse(ReadFile(DataFolder() + "/weight_formula.json").value_or("{}")); }

TEST(WeightFormulaTest, MatchesTheValuesOfThePythonScript) {
  int checked = 0;
  const Json values = FormulaValues();
  for (const Json& pick : values.at("weights")) {
    const auto name = pick.at("name").get<std::string>();
    const auto shape = pick.at("shape").get<std::vector<int64_t>>();
    const auto indices = pick.at("indices").get<std::vector<size_t>>();
    const auto bits = pick.at("bits").get<std::vector<uint32_t>>();
    ASSERT_OK_AND_ASSIGN(const ModelCase golden,
                         ModelCase::Load(pick.at("model").get<std::string>() + "_text"));
    const std::vector<float> weight = Weight(golden, name, shape);
    for (size_t i = 0; i < indices.size(); ++i, ++checked) {
      EXPECT_EQ(std::bit_cast<uint32_t>(weight[indices[i]]), bits[i]) << name << " at " << indices[i];
    }
  }
  EXPECT_GT(checked, 20);
}

TEST(WeightFormulaTest, AnyPartOfATensorStandsAlone) {
  const std::vector<int64_t> shape = {7, 11};
  std::vector<float> whole(77);
  std::vector<float> part(20);
  FillWeight("a.weight", shape, 5, whole);
  FillWeight("a.weight", shape, 5, part, /*first=*/31);
  EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + 31));
}

TEST(WeightFormulaTest, PixelsMatchThePythonScript) {
  const Json values = FormulaValues();
  for (const Json& pick : values.at("pixels")) {
    const auto at = pick.at("at").get<std::vector<int64_t>>();
    EXPECT_EQ(TilePixel(at[0], at[1], at[2], at[3], at[4]), pick.at("value").get<int>()) << pick;
  }
  Image image;
  image.tiles = 2;
  image.tile_seed = 30;
  EXPECT_EQ(Tiles(image, 8).at(((1 * 8 + 5) * 8 + 7) * 3 + 2), TilePixel(30, 1, 5, 7, 2));
}

// What holds of any case whatever the reference said: the file agrees with itself and with its config.
void CheckCase(const ModelCase& golden) {
  ASSERT_OK_AND_ASSIGN(const std::string text, ReadFile(golden.config_path()));
  const Json config = Json::parse(text);
  ASSERT_OK_AND_ASSIGN(const auto prompt, golden.Ints("prompt_ids"));
  ASSERT_OK_AND_ASSIGN(const auto greedy, golden.Ints("greedy_ids"));
  ASSERT_OK_AND_ASSIGN(const auto rows, golden.Ints("rows"));
  ASSERT_OK_AND_ASSIGN(const auto top_ids, golden.Ints("top_ids"));
  ASSERT_OK_AND_ASSIGN(const auto top_logits, golden.Floats("top_logits"));
  ASSERT_OK_AND_ASSIGN(const auto full_rows, golden.Ints("full_rows"));
  ASSERT_OK_AND_ASSIGN(const auto logits, golden.Floats("logits"));
  const size_t vocab = logits.size() / full_rows.size();
  int64_t pictures = 0;
  for (const Image& image : golden.images()) pictures += image.tokens;
  if (!golden.images().empty()) {
    const auto id = config.at("image_token_index").get<int32_t>();
    EXPECT_EQ(std::count(prompt.begin(), prompt.end(), id), pictures);
    EXPECT_EQ(config.at("text_config").at("vocab_size").get<size_t>(), vocab);
  } else if (!config.contains("text_config")) {
    EXPECT_EQ(config.at("vocab_size").get<size_t>(), vocab);
  }
  EXPECT_EQ(greedy.size(), 64U);
  // Every decode row is kept whole.
  ASSERT_GE(full_rows.size(), greedy.size());
  for (size_t i = 0; i < greedy.size(); ++i) {
    EXPECT_EQ(static_cast<size_t>(full_rows[full_rows.size() - greedy.size() + i]), prompt.size() - 1 + i);
  }
  const size_t first = rows.size() - greedy.size();
  EXPECT_EQ(static_cast<size_t>(rows[first]) + 1, prompt.size());
  for (size_t i = 0; i < greedy.size(); ++i) EXPECT_EQ(top_ids[(first + i) * 8], greedy[i]);
  for (size_t i = 0; i < full_rows.size(); ++i) {
    const auto row = logits.subspan(i * vocab, vocab);
    const auto at = std::find(rows.begin(), rows.end(), full_rows[i]) - rows.begin();
    const auto best = std::max_element(row.begin(), row.end());
    EXPECT_EQ(best - row.begin(), top_ids[static_cast<size_t>(at) * 8]);
    EXPECT_EQ(*best, top_logits[static_cast<size_t>(at) * 8]);
  }
}

TEST(ModelCaseTest, EveryCommittedCaseLoadsAndAgreesWithItself) {
  const std::vector<std::string> names = CaseNames();
  EXPECT_EQ(names.size(), 27U);
  for (const std::string& name : names) {
    SCOPED_TRACE(name);
    ASSERT_OK_AND_ASSIGN(const ModelCase golden, ModelCase::Load(name));
    CheckCase(golden);
  }
  EXPECT_THAT(CaseNames("g0"), testing::Contains("g0_text"));
  EXPECT_THAT(CaseNames("g0"), testing::Not(testing::Contains("g4_text")));
}

TEST(CheckpointFolderTest, TheBuildWroteThem) {
  for (const char* name : {"g0", "g0_native", "g2", "g2_bf16", "g2_native", "g4", "demo"}) {
    EXPECT_TRUE(FileExists(CheckpointFolder(name) + "/config.json")) << name;
  }
}

TEST(ModelCaseTest, NamesWhatIsMissing) {
  EXPECT_THAT(ModelCase::Load("g9_nothing").status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("g9_nothing")));
  ASSERT_OK_AND_ASSIGN(const ModelCase golden, ModelCase::Load("g0_text"));
  EXPECT_THAT(golden.Floats("nothing").status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("nothing")));
  EXPECT_THAT(golden.Floats("prompt_ids").status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("i32")));
  EXPECT_THAT(golden.Ints("logits").status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr("f32")));
}

TEST(ModelCaseTest, ACutFileIsDataLoss) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "cut_golden";
  std::filesystem::create_directories(folder);
  for (const char* file : {"g0_text.json", "g0_text.bin"}) {
    std::filesystem::copy_file(DataFolder() + "/" + file, folder / file,
                               std::filesystem::copy_options::overwrite_existing);
  }
  std::filesystem::resize_file(folder / "g0_text.bin", 100);
  setenv("FULGER_GOLDEN_DIR", folder.c_str(), 1);
  const absl::Status status = ModelCase::Load("g0_text").status();
  unsetenv("FULGER_GOLDEN_DIR");
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss, HasSubstr("found 100")));
}

}  // namespace
}  // namespace fulger::golden
