// Every golden case in float32 on one rank: the whole logits of every decode step and of some prompt rows
// against the reference, the best eight and the norm of more prompt rows, and 64 identical greedy tokens.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "tests/model/golden_run.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

constexpr double kBound = 1e-4;  // of the largest absolute logit of the row

class ModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(ModelGolden, LogitsAndGreedyTokens) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make(GetParam()));
  const golden::ModelCase& golden = checkpoint->golden();
  if (golden.int8() && !TestDeviceTakesInt8()) GTEST_SKIP() << "int8 weights run on the CPU only";
  LogitsRecorder recorder;
  ThreadReplicaOptions options;
  options.logits = &recorder;
  options.runner.max_step_tokens = 4096;
  options.runner.blocks = 400;
  ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), checkpoint->formats(), options));
  ASSERT_OK(checkpoint->Encode(*replica));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  ASSERT_OK_AND_ASSIGN(const DriverRequest request, checkpoint->Request(1, 4096));
  ASSERT_OK_AND_ASSIGN(const auto tokens, driver.Run({request}));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> expected, checkpoint->ExpectedTokens());
  EXPECT_EQ(expected.size(), 64U);
  EXPECT_EQ(tokens.at(1), expected);
  // Row i is what follows token i: the last prompt row gives the first token, and nothing follows the last.
  const auto first_step = static_cast<int64_t>(request.prompt.size()) - 1;
  const auto end = first_step + static_cast<int64_t>(expected.size());
  ASSERT_EQ(recorder.rows().size(), static_cast<size_t>(end)) << "a row of every position that is computed";
  ASSERT_EQ(recorder.rows().rbegin()->first, end - 1);

  ASSERT_OK_AND_ASSIGN(const auto full_rows, golden.Ints("full_rows"));
  ASSERT_OK_AND_ASSIGN(const auto logits, golden.Floats("logits"));
  ASSERT_FALSE(full_rows.empty());
  const size_t vocab = logits.size() / full_rows.size();
  double worst = 0;
  int64_t steps = 0;
  for (size_t r = 0; r < full_rows.size(); ++r) {
    if (full_rows[r] >= first_step) ++steps;
    ASSERT_TRUE(recorder.rows().contains(full_rows[r])) << "row " << full_rows[r] << " of " << end;
    const auto& row = recorder.rows().at(full_rows[r]);
    ASSERT_EQ(row.size(), vocab);
    double scale = 0;
    for (size_t v = 0; v < vocab; ++v)
      scale = std::max(scale, std::fabs(static_cast<double>(logits[r * vocab + v])));
    for (size_t v = 0; v < vocab; ++v) {
      const double error =
          std::fabs(static_cast<double>(row[v]) - static_cast<double>(logits[r * vocab + v]));
      worst = std::max(worst, error / scale);
      ASSERT_LE(error, kBound * scale) << "row " << full_rows[r] << ", id " << v << ": expected "
                                       << logits[r * vocab + v] << ", got " << row[v];
    }
  }
  EXPECT_EQ(steps, end - first_step) << "decode steps of which all logits are compared";
  // Rows of which the best eight and the norm are stored.
  ASSERT_OK_AND_ASSIGN(const auto rows, golden.Ints("rows"));
  ASSERT_OK_AND_ASSIGN(const auto top_ids, golden.Ints("top_ids"));
  ASSERT_OK_AND_ASSIGN(const auto top_logits, golden.Floats("top_logits"));
  ASSERT_OK_AND_ASSIGN(const auto norms, golden.Floats("row_norms"));
  ASSERT_EQ(norms.size(), rows.size());
  const size_t k = top_ids.size() / rows.size();
  for (size_t r = 0; r < rows.size(); ++r) {
    const auto found = recorder.rows().find(rows[r]);
    ASSERT_TRUE(found != recorder.rows().end()) << "row " << rows[r] << " of " << end;
    double squares = 0;
    for (const float v : found->second) squares += static_cast<double>(v) * static_cast<double>(v);
    EXPECT_NEAR(std::sqrt(squares), norms[r], kBound * static_cast<double>(norms[r])) << "row " << rows[r];
    double scale = 0;
    for (size_t i = 0; i < k; ++i)
      scale = std::max(scale, std::fabs(static_cast<double>(top_logits[r * k + i])));
    for (size_t i = 0; i < k; ++i) {
      const double error =
          std::fabs(static_cast<double>(found->second[static_cast<size_t>(top_ids[r * k + i])]) -
                    static_cast<double>(top_logits[r * k + i]));
      worst = std::max(worst, error / scale);
      EXPECT_LE(error, kBound * scale) << "row " << rows[r] << ", best " << i;
    }
  }
  RecordProperty("worst_relative_error", std::to_string(worst));
  std::printf("%s: worst error %.2e of the row's largest logit\n", GetParam().c_str(), worst);
}

INSTANTIATE_TEST_SUITE_P(Cases, ModelGolden, testing::ValuesIn(golden::CaseNames()),
                         [](const auto& c) { return c.param; });

}  // namespace
}  // namespace fulger
