#include <cmath>

#include "kernels/suite/op_suite.h"
#include "kernels/suite/reference.h"

namespace fulger {
namespace {

constexpr int64_t kWidths[] = {1, 7, 8, 96, 333, 1024};

double RootMean(const Values& x, size_t row, size_t n, double eps) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[row * n + i] * x[row * n + i];
  return std::sqrt(sum / static_cast<double>(n) + eps);
}

TEST_P(OpSuite, RmsNormMatchesTheReference) {
  for (const int64_t h : kWidths) {
    for (const int64_t t : {0, 1, 3, 70}) {
      SCOPED_TRACE(testing::Message() << "T " << t << " H " << h);
      const Operand x = Input(DType::kF32, {t, h}, 3.0, Pick(0, 4));
      const Operand w = Input(Pick(0, 1) == 0 ? DType::kF32 : DType::kBF16, {h});
      const Operand out = Output(DType::kF32, {t, h}, Pick(0, 4));
      ASSERT_OK(ops().RmsNorm(stream(),
                              {.x = x.view(), .w = w.view(), .eps = 1e-5F, .out = out.mut(), .health = {}}));
      const Values want = ref::RmsNorm(x.values(), w.values(), 1e-5);
      auto bound = [&](size_t i) { return SumBound(h) * std::abs(want[i]); };
      EXPECT_TRUE(Near(out.shape(), out.Download(), want, bound));
      // In place.
      ASSERT_OK(ops().RmsNorm(stream(),
                              {.x = x.view(), .w = w.view(), .eps = 1e-5F, .out = x.mut(), .health = {}}));
      EXPECT_TRUE(Near(x.shape(), x.Download(), want, bound));
    }
  }
}

TEST_P(OpSuite, RmsNormOfZerosIsZero) {
  const Operand x = InputOf(DType::kF32, {2, 5}, Values(10, 0.0));
  const Operand w = Input(DType::kF32, {5});
  const Operand out = Output(DType::kF32, {2, 5});
  ASSERT_OK(
      ops().RmsNorm(stream(), {.x = x.view(), .w = w.view(), .eps = 1e-5F, .out = out.mut(), .health = {}}));
  EXPECT_TRUE(Same(out.shape(), out.Download(), Values(10, 0.0)));
}

TEST_P(OpSuite, NormsNoteTheFirstLayerThatWentBad) {
  Values values = Random(5 * 40);
  values[1 * 40 + 39] = std::numeric_limits<double>::quiet_NaN();
  values[3 * 40 + 2] = -std::numeric_limits<double>::infinity();
  values[4 * 40 + 2] = 1e30;  // finite, but its square is not
  const Operand x = InputOf(DType::kF32, {5, 40}, values);
  const Operand w = Input(DType::kF32, {40});
  const Operand out = Output(DType::kF32, {5, 40});
  const Operand rows = InputOf(DType::kI32, {5}, {-1, -1, -1, 7, -1});
  HealthNote note{.rows = rows.mut(), .tag = 12};
  ASSERT_OK(ops().RmsNorm(stream(),
                          {.x = x.view(), .w = w.view(), .eps = 1e-5F, .out = out.mut(), .health = note}));
  EXPECT_TRUE(Same(rows.shape(), rows.Download(), {-1, 12, -1, 7, 12}));

  const Operand zero = InputOf(DType::kF32, {5, 40}, Values(200, 0.0));
  const Operand again = InputOf(DType::kI32, {5}, {-1, -1, -1, -1, -1});
  note.rows = again.mut();
  ASSERT_OK(ops().AddRmsNorm(stream(), {.residual = zero.view(),
                                        .branch = x.view(),
                                        .alpha = 1,
                                        .beta = 1,
                                        .w = w.view(),
                                        .eps = 1e-5F,
                                        .out = out.mut(),
                                        .health = note}));
  EXPECT_TRUE(Same(again.shape(), again.Download(), {-1, 12, -1, 12, 12}));
}

TEST_P(OpSuite, AddRmsNormMatchesTheReference) {
  const float alpha = 3.5565588F;
  const float beta = 0.75F;
  for (const int64_t h : kWidths) {
    for (int alias = 0; alias < 3; ++alias) {  // out: own, residual, branch
      const int64_t t = Pick(0, 9);
      SCOPED_TRACE(testing::Message() << "T " << t << " H " << h << " alias " << alias);
      const Operand a = Input(DType::kF32, {t, h}, 1.0, Pick(0, 2));
      const Operand b = Input(DType::kF32, {t, h}, 2.0, Pick(0, 2));
      const Operand w = Input(DType::kBF16, {h});
      const Operand own = Output(DType::kF32, {t, h}, Pick(0, 2));
      const Operand& out = alias == 0 ? own : (alias == 1 ? a : b);
      Values sum(a.values().size());
      for (size_t i = 0; i < sum.size(); ++i) {
        sum[i] = static_cast<double>(alpha) * a.values()[i] + static_cast<double>(beta) * b.values()[i];
      }
      ASSERT_OK(ops().AddRmsNorm(stream(), {.residual = a.view(),
                                            .branch = b.view(),
                                            .alpha = alpha,
                                            .beta = beta,
                                            .w = w.view(),
                                            .eps = 1e-6F,
                                            .out = out.mut(),
                                            .health = {}}));
      const Values want = ref::RmsNorm(sum, w.values(), 1e-6);
      const auto width = static_cast<size_t>(h);
      EXPECT_TRUE(Near(out.shape(), out.Download(), want, [&](size_t i) {
        const double size = 3.6 * std::abs(a.values()[i]) + std::abs(b.values()[i]);
        return SumBound(h) * std::abs(want[i]) +
               2 * kEps * size * std::abs(w.values()[i % width]) / RootMean(sum, i / width, width, 1e-6);
      }));
    }
  }
}

TEST_P(OpSuite, AddScaledMatchesTheReference) {
  for (const int64_t h : kWidths) {
    const int64_t t = Pick(0, 9);
    const Operand a = Input(DType::kF32, {t, h}, 1.0, Pick(0, 2));
    const Operand b = Input(DType::kF32, {t, h}, 1.0, Pick(0, 2));
    const Operand out = Output(DType::kF32, {t, h}, Pick(0, 2));
    Values want(a.values().size());
    Values size(a.values().size());
    for (size_t i = 0; i < want.size(); ++i) {
      want[i] = 1.5 * a.values()[i] - 0.3F * b.values()[i];
      size[i] = 1.5 * std::abs(a.values()[i]) + 0.3F * std::abs(b.values()[i]);
    }
    auto bound = [&](size_t i) { return 2 * kEps * size[i]; };
    ASSERT_OK(ops().AddScaled(
        stream(), {.a = a.view(), .alpha = 1.5F, .b = b.view(), .beta = -0.3F, .out = out.mut()}));
    EXPECT_TRUE(Near(out.shape(), out.Download(), want, bound));
    ASSERT_OK(ops().AddScaled(stream(),
                              {.a = a.view(), .alpha = 1.5F, .b = b.view(), .beta = -0.3F, .out = a.mut()}));
    EXPECT_TRUE(Near(a.shape(), a.Download(), want, bound));
  }
}

TEST_P(OpSuite, LayerNormMatchesTheReference) {
  for (const int64_t h : kWidths) {
    for (const double offset : {0.0, 50.0}) {  // a mean much larger than the spread
      const int64_t t = Pick(0, 20);
      SCOPED_TRACE(testing::Message() << "T " << t << " H " << h << " offset " << offset);
      Values values = Random(t * h);
      for (double& v : values) v += offset;
      const Operand x = InputOf(DType::kF32, {t, h}, values, Pick(0, 4));
      const Operand w = Input(DType::kBF16, {h});
      const Operand b = Input(DType::kF32, {h});
      const Operand out = Output(DType::kF32, {t, h}, Pick(0, 4));
      ASSERT_OK(ops().LayerNorm(
          stream(), {.x = x.view(), .w = w.view(), .b = b.view(), .eps = 1e-5F, .out = out.mut()}));
      const Values want = ref::LayerNorm(x.values(), w.values(), b.values(), 1e-5);
      // Slope and intercept of the row: how an error of x or of the mean arrives in out.
      const Values shifted =
          ref::LayerNorm(x.values(), Values(w.values().size(), 1.0), Values(b.values().size(), 0.0), 1e-5);
      const auto width = static_cast<size_t>(h);
      EXPECT_TRUE(Near(out.shape(), out.Download(), want, [&](size_t i) {
        const size_t row = i / width * width;
        double mean = 0;
        double var = 0;
        for (size_t j = 0; j < width; ++j) mean += std::abs(x.values()[row + j]) / static_cast<double>(h);
        double plain = 0;
        for (size_t j = 0; j < width; ++j) plain += x.values()[row + j] / static_cast<double>(h);
        for (size_t j = 0; j < width; ++j) {
          var += (x.values()[row + j] - plain) * (x.values()[row + j] - plain) / static_cast<double>(h);
        }
        const double size = (mean + std::abs(x.values()[i])) / std::sqrt(var + 1e-5) + std::abs(shifted[i]);
        return SumBound(h) * std::abs(w.values()[i % width]) * size + kEps * std::abs(want[i]) +
               kEps * std::abs(b.values()[i % width]);
      }));
    }
  }
}

}  // namespace
}  // namespace fulger
