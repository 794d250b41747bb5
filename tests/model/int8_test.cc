// int8 experts and projections against the same bfloat16 model: how far rounding weights moves the answer.
// (What the rounded weights answer is held to strangers' code by model_golden_test.)
//
// Bound. A row with largest magnitude m becomes multiples of m / 127: an element's error is uniform within
// half a step, m / (127 sqrt 12) in the root mean square, which against the row's own root mean square is the
// relative error r of a product with that matrix (L2; for normal rows of n elements m is about sqrt(2 ln n)
// of it). r is taken from the weights, the worst matrix of the model. A layer has three such factors in its
// experts, w1, w3 and w2, and five in its projections, q, k, v, gate and out; the head is one more for the
// model. Independent errors add in squares, and each norm hands relative errors on at full size, so F factors
// give sqrt(F) r. SiLU can double the relative error of what it takes in, and products are multiplied
// with each other: the test allows a factor of 4, as for bfloat16. The models are those where the routing
// cannot flip.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/bfloat16.h"
#include "tests/model/golden_run.h"
#include "tests/model/rounding_error.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

// The largest r of the matrices that `rank` holds as int8.
double WorstRounding(const golden::ModelCase& golden, const ModelConfig& config, const RankPlan& rank) {
  double worst = 0;
  for (const TensorSpec& spec : TensorTable(config)) {
    if (!HeldAsInt8(spec, rank)) continue;
    const std::string name =
        Locate(config, spec, config.vision ? Naming::kReleased : Naming::kReleasedText).name;
    const std::vector<float> values = golden::Weight(golden, name, spec.shape);
    double error = 0, size = 0;
    const auto columns = static_cast<size_t>(spec.shape[1]);
    for (size_t row = 0; row < values.size(); row += columns) {
      double largest = 0;
      for (size_t c = 0; c < columns; ++c) {
        const auto v = static_cast<double>(values[row + c]);
        largest = std::max(largest, std::abs(v));
        size += v * v;
      }
      error += std::pow(largest / 127, 2) / 12 * static_cast<double>(columns);
    }
    worst = std::max(worst, std::sqrt(error / size));
  }
  return worst;
}

class Int8 : public testing::TestWithParam<const char*> {};

TEST_P(Int8, LogitsStayWithinTheDerivedBoundOfBfloat16) {
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make(GetParam(), DType::kBF16));
  ASSERT_OK_AND_ASSIGN(const LogitsRecorder bf16, PrefillLogits(*checkpoint, false));
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(checkpoint->dir()));
  const auto layers = static_cast<double>(config.text.layers());
  const WeightFormat int8 = WeightFormat::kInt8;
  for (const Layout& layout :
       {Layout{.experts = int8}, Layout{.projections = int8}, Layout{.experts = int8, .projections = int8}}) {
    ASSERT_OK_AND_ASSIGN(const LogitsRecorder rounded, PrefillLogits(*checkpoint, false, layout));
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, layout));
    const double rounding = WorstRounding(checkpoint->golden(), config, plan.ranks[0]);
    const double factors =
        (layout.experts == int8 ? 3 * layers : 0) + (layout.projections == int8 ? 5 * layers + 1 : 0);
    const std::string name = fmt::format("{}, {}", GetParam(), ToString(layout));
    ExpectRowsWithin(name.c_str(), config.text, bf16, rounded, 4 * std::sqrt(factors) * rounding);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Int8, testing::Values("g0_images", "g0_text", "g1_text", "g3_t257"));

}  // namespace
}  // namespace fulger
