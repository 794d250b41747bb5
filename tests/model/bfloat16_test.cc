// bfloat16 weights against float32 weights of the same model: how far rounding the weights alone moves the
// answer.
//
// Bound. Rounding a weight to bfloat16 changes it by at most u = 2^-9 of its value, without bias: about u /
// sqrt(3) in the L2 norm of a product. A layer has ten such factors: q, k, v, gate and out (or q, k, v and
// out) of the attention, w1, w3 and w2 of the experts, and two norms; the embedding, the final norm and the
// head add four for the whole model. A layer of the vision tower has eight: q, k, v, out, fc1, fc2 and two
// norms; patches, class token, positions, their norm and the projector's two add six. Independent errors add
// in squares, and each norm hands relative errors on at full size, so F factors give sqrt(F) * u / sqrt(3).
// SiLU and sigmoid can double the relative error of what they take in, and q, k and v are multiplied with
// each other: the test allows a factor of 4 for both. In g0 and g1 both of two experts are chosen, so that no
// row's routing can flip, and all rows are held. In a small model with few experts (g3) nine rows in ten are:
// a flip is a different sum of experts, not a rounding error, and no such bound covers it.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/model/golden_run.h"
#include "tests/model/rounding_error.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

class Bfloat16 : public testing::TestWithParam<const char*> {};

TEST_P(Bfloat16, LogitsStayWithinTheDerivedBound) {
  ASSERT_OK_AND_ASSIGN(auto full, GoldenCheckpoint::Make(GetParam()));
  ASSERT_OK_AND_ASSIGN(auto rounded, GoldenCheckpoint::Make(GetParam(), DType::kBF16));
  ASSERT_OK_AND_ASSIGN(const LogitsRecorder exact, PrefillLogits(*full, true));
  ASSERT_OK_AND_ASSIGN(const LogitsRecorder bf16, PrefillLogits(*rounded, false));
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(full->dir()));
  double depth = 10.0 * static_cast<double>(config.text.layers()) + 4;
  if (!full->golden().images().empty()) depth += 8.0 * static_cast<double>(config.vision->layers) + 6;
  const double bound = 4 * std::sqrt(depth) * std::exp2(-9) / std::sqrt(3.0);
  ExpectRowsWithin(GetParam(), config.text, exact, bf16, bound);
}

INSTANTIATE_TEST_SUITE_P(Models, Bfloat16, testing::Values("g0_images", "g0_text", "g1_text", "g3_t257"));

}  // namespace
}  // namespace fulger
