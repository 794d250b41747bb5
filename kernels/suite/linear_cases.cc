#include <gmock/gmock.h>

#include <cmath>

#include "kernels/suite/op_suite.h"
#include "kernels/suite/reference.h"

namespace fulger {
namespace {

struct Case {
  int64_t t, n, k;
};

TEST_P(OpSuite, LinearMatchesTheReference) {
  const Case cases[] = {{1, 1, 1},    {1, 5, 8},      {1, 64, 256}, {2, 9, 33},    {3, 17, 64},
                        {4, 31, 100}, {5, 3, 7},      {6, 64, 512}, {7, 65, 513},  {17, 130, 96},
                        {48, 64, 64}, {49, 70, 1030}, {100, 13, 9}, {130, 200, 40}};
  for (const Case& c : cases) {
    for (const DType w_type : {DType::kF32, DType::kBF16, DType::kI8}) {
      const bool with_bias = Pick(0, 1) == 1;
      SCOPED_TRACE(testing::Message() << "T " << c.t << " N " << c.n << " K " << c.k << " " << Name(w_type)
                                      << (with_bias ? " bias" : ""));
      const Operand x = Input(DType::kF32, {c.t, c.k}, 1.0, Pick(0, 5));
      const Weight w = WeightOf(w_type, {c.n, c.k}, 0.5, Pick(0, 3));
      const Operand bias = Input(Pick(0, 1) == 0 ? DType::kF32 : DType::kBF16, {c.n});
      const Operand out = Output(DType::kF32, {c.t, c.n}, Pick(0, 4));
      const absl::Status status = ops().Linear(stream(), {.x = x.view(),
                                                          .w = w.w.view(),
                                                          .w_scale = w.scale_view(),
                                                          .bias = with_bias ? bias.view() : TensorView(),
                                                          .out = out.mut()});
      if (LacksInt8(w_type, status)) continue;
      ASSERT_OK(status);
      const Values b = with_bias ? bias.values() : Values();
      const Values size = ref::LinearMagnitude(x.values(), w.values, b, c.k);
      EXPECT_TRUE(Near(out.shape(), out.Download(), ref::Linear(x.values(), w.values, b, c.k),
                       [&](size_t i) { return SumBound(c.k) * size[i]; }));
    }
  }
}

TEST_P(OpSuite, LinearWithNothingToDo) {
  const Operand w = Input(DType::kBF16, {3, 4});
  const Operand none = Output(DType::kF32, {0, 4});
  const Operand none_out = Output(DType::kF32, {0, 3});
  EXPECT_OK(ops().Linear(stream(), {.x = none.view(), .w = w.view(), .bias = {}, .out = none_out.mut()}));
  none_out.Download();

  const Operand x = Input(DType::kF32, {2, 4});
  const Operand no_rows = Output(DType::kBF16, {0, 4});
  const Operand no_columns = Output(DType::kF32, {2, 0});
  EXPECT_OK(
      ops().Linear(stream(), {.x = x.view(), .w = no_rows.view(), .bias = {}, .out = no_columns.mut()}));
  no_columns.Download();

  // K = 0: the bias, or zero.
  const Operand x0 = Output(DType::kF32, {2, 0});
  const Operand w0 = Output(DType::kF32, {3, 0});
  const Operand bias = InputOf(DType::kF32, {3}, {1, -2, 3});
  const Operand out = Output(DType::kF32, {2, 3});
  EXPECT_OK(ops().Linear(stream(), {.x = x0.view(), .w = w0.view(), .bias = bias.view(), .out = out.mut()}));
  EXPECT_TRUE(Same(out.shape(), out.Download(), {1, -2, 3, 1, -2, 3}));
  EXPECT_OK(ops().Linear(stream(), {.x = x0.view(), .w = w0.view(), .bias = {}, .out = out.mut()}));
  EXPECT_TRUE(Same(out.shape(), out.Download(), {0, 0, 0, 0, 0, 0}));
}

// The promise that all layouts and batches stand on: bit for bit, row by row.
TEST_P(OpSuite, LinearRowsDoNotDependOnTheBatch) {
  constexpr int64_t kT = 101;
  constexpr int64_t kN = 67;
  for (const int64_t k : {8, 96, 517, 1100}) {
    for (const DType w_type : {DType::kF32, DType::kBF16, DType::kI8}) {
      const Operand x = Input(DType::kF32, {kT, k});
      const Weight w = WeightOf(w_type, {kN, k});
      const Operand all = Output(DType::kF32, {kT, kN});
      LinearArgs args{
          .x = x.view(), .w = w.w.view(), .w_scale = w.scale_view(), .bias = {}, .out = all.mut()};
      const absl::Status status = ops().Linear(stream(), args);
      if (LacksInt8(w_type, status)) continue;
      ASSERT_OK(status);
      const Values want = all.Download();
      const Values size = ref::LinearMagnitude(x.values(), w.values, {}, k);
      for (const int64_t t : {1, 2, 3, 4, 5, 6, 48, 50}) {
        const int64_t first = Pick(0, kT - t);
        const int64_t n = Pick(1, kN);  // and on which columns are asked for together
        const Operand out = Output(DType::kF32, {t, n});
        args.x = x.view().Rows(first, t);
        args.w = w.w.view().Rows(kN - n, n);
        if (w_type == DType::kI8) args.w_scale = w.scale.view().Rows(kN - n, n);
        args.out = out.mut();
        ASSERT_OK(ops().Linear(stream(), args));
        Values part;
        Values part_size;
        for (int64_t i = first; i < first + t; ++i) {
          for (int64_t j = kN - n; j < kN; ++j) {
            part.push_back(want[static_cast<size_t>(i * kN + j)]);
            part_size.push_back(size[static_cast<size_t>(i * kN + j)]);
          }
        }
        EXPECT_TRUE(SameRows(w_type, out.shape(), out.Download(), part,
                             [&](size_t i) { return SumBound(k) * part_size[i]; }))
            << "rows " << first << " + " << t << ", K " << k;
      }
    }
  }
}

TEST_P(OpSuite, LinearWantsAScaleWithIntegersAndOnlyThen) {
  const Operand x = Input(DType::kF32, {1, 4});
  const Operand integers = InputOf(DType::kI8, {3, 4}, Values(12, -3.0));
  const Operand stored = Input(DType::kF32, {3, 4});
  const Operand scale = Input(DType::kF32, {3});
  const Operand out = Output(DType::kF32, {1, 3});
  LinearArgs args{.x = x.view(), .w = integers.view(), .bias = {}, .out = out.mut()};
  EXPECT_THAT(ops().Linear(stream(), args).message(), testing::HasSubstr("Linear: w_scale: expected [N=3]"));
  args.w_scale = scale.view();
  const absl::Status complete = ops().Linear(stream(), args);
  EXPECT_TRUE(complete.ok() || absl::IsUnimplemented(complete)) << complete;
  args.w = stored.view();
  EXPECT_THAT(ops().Linear(stream(), args).message(), testing::HasSubstr("w_scale belongs to I8 weights"));
}

TEST_P(OpSuite, LinearKeepsBadRowsToThemselves) {
  const Operand w = Input(DType::kBF16, {9, 40});
  Values values = Random(7 * 40);
  values[2 * 40 + 5] = std::numeric_limits<double>::quiet_NaN();
  values[4 * 40 + 39] = std::numeric_limits<double>::infinity();
  const Operand x = InputOf(DType::kF32, {7, 40}, values);
  const Operand out = Output(DType::kF32, {7, 9});
  ASSERT_OK(ops().Linear(stream(), {.x = x.view(), .w = w.view(), .bias = {}, .out = out.mut()}));
  const Values got = out.Download();
  for (size_t i = 0; i < got.size(); ++i) {
    const size_t row = i / 9;
    EXPECT_EQ(std::isfinite(got[i]), row != 2 && row != 4) << "row " << row << " column " << i % 9;
  }
}

}  // namespace
}  // namespace fulger
