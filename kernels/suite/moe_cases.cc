#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "kernels/suite/op_suite.h"
#include "kernels/suite/reference.h"

namespace fulger {
namespace {

size_t At(int64_t i) { return static_cast<size_t>(i); }

TEST_P(OpSuite, RouterMatchesTheReference) {
  for (const int64_t t : {0, 1, 4, 5, 60}) {
    for (const int64_t k : {1, 2, 5}) {
      const int64_t h = Pick(1, 150);
      const int64_t experts = Pick(5, 33);
      SCOPED_TRACE(testing::Message() << "T " << t << " H " << h << " E " << experts << " k " << k);
      const Operand x = Input(DType::kF32, {t, h}, 1.0, Pick(0, 3));
      const Operand gate = Input(Pick(0, 1) == 0 ? DType::kF32 : DType::kBF16, {experts, h}, 0.3);
      const Operand ids = Output(DType::kI32, {t, k});
      const Operand weights = Output(DType::kF32, {t, k});
      ASSERT_OK(ops().Router(
          stream(), {.x = x.view(), .gate = gate.view(), .ids = ids.mut(), .weights = weights.mut()}));
      const Values logits = ref::Linear(x.values(), gate.values(), {}, h);
      const Values size = ref::LinearMagnitude(x.values(), gate.values(), {}, h);
      const Values got_ids = ids.Download();
      const Values got = weights.Download();
      for (int64_t row = 0; row < t; ++row) {
        const double error =
            SumBound(h) * *std::max_element(size.begin() + row * experts, size.begin() + (row + 1) * experts);
        // The ids name the k largest up to rounding, in descending order, once each.
        std::vector<double> sorted(logits.begin() + row * experts, logits.begin() + (row + 1) * experts);
        std::sort(sorted.rbegin(), sorted.rend());
        double sum = 0;
        std::vector<bool> seen(At(experts));
        for (int64_t i = 0; i < k; ++i) {
          const auto id = static_cast<int64_t>(got_ids[At(row * k + i)]);
          ASSERT_GE(id, 0);
          ASSERT_LT(id, experts);
          EXPECT_FALSE(seen[At(id)]) << "expert " << id << " twice in row " << row;
          seen[At(id)] = true;
          EXPECT_NEAR(logits[At(row * experts + id)], sorted[At(i)], 2 * error)
              << "row " << row << " choice " << i;
          sum += std::exp(logits[At(row * experts + id)] - sorted[0]);
        }
        for (int64_t i = 0; i < k; ++i) {
          const double want =
              std::exp(logits[At(row * experts) + At(static_cast<int64_t>(got_ids[At(row * k + i)]))] -
                       sorted[0]) /
              sum;
          EXPECT_NEAR(got[At(row * k + i)], want, (2 * std::expm1(2 * error) + 8 * kEps) * want + 1e-37)
              << "row " << row << " choice " << i;
        }
      }
    }
  }
}

TEST_P(OpSuite, RouterTiesGoToTheLowestExpert) {
  // Exact ties: experts 1, 3 and 4 share a row of the gate, 0 and 2 another.
  const Operand x = InputOf(DType::kF32, {2, 2}, {1, 0, 0, 1});
  const Operand gate = InputOf(DType::kF32, {5, 2}, {0.5, 2, 1, -1, 0.5, 2, 1, -1, 1, -1});
  const Operand ids = Output(DType::kI32, {2, 4});
  const Operand weights = Output(DType::kF32, {2, 4});
  ASSERT_OK(ops().Router(stream(),
                         {.x = x.view(), .gate = gate.view(), .ids = ids.mut(), .weights = weights.mut()}));
  EXPECT_TRUE(Same(ids.shape(), ids.Download(), {1, 3, 4, 0, 0, 2, 1, 3}));
  const double a = 1 / (3 + std::exp(-0.5));
  const double b = 1 / (2 + 2 * std::exp(-3.0));
  EXPECT_TRUE(Near(weights.shape(), weights.Download(),
                   {a, a, a, a * std::exp(-0.5), b, b, b * std::exp(-3.0), b * std::exp(-3.0)},
                   [](size_t) { return 4 * kEps; }));
}

TEST_P(OpSuite, RouterGivesLegalIdsForBadRows) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Operand x = InputOf(DType::kF32, {2, 3}, {1, nan, 2, 1, 1, 1});
  const Operand gate = Input(DType::kF32, {4, 3});
  const Operand ids = Output(DType::kI32, {2, 2});
  const Operand weights = Output(DType::kF32, {2, 2});
  ASSERT_OK(ops().Router(stream(),
                         {.x = x.view(), .gate = gate.view(), .ids = ids.mut(), .weights = weights.mut()}));
  const Values got = ids.Download();
  for (const double id : got) {
    EXPECT_GE(id, 0);
    EXPECT_LT(id, 4);
  }
  EXPECT_NE(got[0], got[1]);
  EXPECT_TRUE(std::isnan(weights.Download()[0]));
}

// An expert that a bad gate row keeps from being chosen must not hide the badness.
TEST_P(OpSuite, RouterWeightsSayThatAnyLogitIsBad) {
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), inf, -inf}) {
    for (int64_t expert = 0; expert < 5; ++expert) {
      const Operand x = InputOf(DType::kF32, {1, 2}, {1, 1});
      Values rows = {5, 0, 4, 0, 3, 0, 2, 0, 1, 0};  // whole, 0 and 1 are chosen
      rows[At(2 * expert)] = bad;
      const Operand gate = InputOf(DType::kF32, {5, 2}, rows);
      const Operand ids = Output(DType::kI32, {1, 2});
      const Operand weights = Output(DType::kF32, {1, 2});
      ASSERT_OK(ops().Router(
          stream(), {.x = x.view(), .gate = gate.view(), .ids = ids.mut(), .weights = weights.mut()}));
      for (const double id : ids.Download()) EXPECT_TRUE(id >= 0 && id < 5) << id;
      for (const double w : weights.Download())
        EXPECT_TRUE(std::isnan(w)) << "expert " << expert << ": " << bad;
    }
  }
}

TEST_P(OpSuite, RouterBitsDoNotDependOnTheBatch) {
  constexpr int64_t kT = 60;
  constexpr int64_t kH = 203;
  const Operand x = Input(DType::kF32, {kT, kH});
  const Operand gate = Input(DType::kBF16, {32, kH});
  const Operand ids = Output(DType::kI32, {kT, 2});
  const Operand weights = Output(DType::kF32, {kT, 2});
  ASSERT_OK(ops().Router(stream(),
                         {.x = x.view(), .gate = gate.view(), .ids = ids.mut(), .weights = weights.mut()}));
  const Values all_ids = ids.Download();
  const Values all = weights.Download();
  for (const int64_t t : {1, 2, 3, 4, 7}) {
    const int64_t first = Pick(0, kT - t);
    const Operand some_ids = Output(DType::kI32, {t, 2});
    const Operand some = Output(DType::kF32, {t, 2});
    ASSERT_OK(ops().Router(
        stream(),
        {.x = x.view().Rows(first, t), .gate = gate.view(), .ids = some_ids.mut(), .weights = some.mut()}));
    EXPECT_TRUE(Same({t, 2}, some_ids.Download(),
                     Values(all_ids.begin() + 2 * first, all_ids.begin() + 2 * (first + t))));
    EXPECT_TRUE(
        Same({t, 2}, some.Download(), Values(all.begin() + 2 * first, all.begin() + 2 * (first + t))));
  }
}

struct MoeCase {
  int64_t t, h, f, experts, first, held, k;
};

TEST_P(OpSuite, MoeMatchesTheReference) {
  const MoeCase cases[] = {{1, 1, 1, 1, 0, 1, 1},      {0, 8, 8, 4, 0, 4, 2},    {1, 40, 24, 8, 0, 8, 2},
                           {3, 33, 17, 4, 0, 4, 2},    {20, 64, 48, 8, 2, 3, 2}, {1, 16, 16, 8, 6, 2, 2},
                           {70, 24, 40, 32, 0, 32, 3}, {9, 12, 70, 4, 0, 4, 4},  {64, 96, 80, 2, 0, 2, 1}};
  for (const MoeCase& c : cases) {
    for (const DType w_type : {DType::kF32, DType::kBF16, DType::kI8}) {
      SCOPED_TRACE(testing::Message()
                   << "T " << c.t << " H " << c.h << " F " << c.f << " experts [" << c.first << ", "
                   << c.first + c.held << ") of " << c.experts << " k " << c.k << " " << Name(w_type));
      const Operand x = Input(DType::kF32, {c.t, c.h}, 1.0, Pick(0, 3));
      const Weight w1 = WeightOf(w_type, {c.held, c.f, c.h}, 0.2);
      const Weight w3 = WeightOf(w_type, {c.held, c.f, c.h}, 0.2);
      const Weight w2 = WeightOf(w_type, {c.held, c.h, c.f}, 0.2);
      const Operand out = Output(DType::kF32, {c.t, c.h}, Pick(0, 3));
      Values id_values;
      std::vector<int64_t> experts(At(c.experts));
      for (int64_t e = 0; e < c.experts; ++e) experts[At(e)] = e;
      for (int64_t t = 0; t < c.t; ++t) {
        std::shuffle(experts.begin(), experts.end(), rng());
        for (int64_t i = 0; i < c.k; ++i) id_values.push_back(static_cast<double>(experts[At(i)]));
      }
      const Operand ids = InputOf(DType::kI32, {c.t, c.k}, id_values);
      const Operand weights = Input(DType::kF32, {c.t, c.k}, 0.5);
      const MoeArgs args{.x = x.view(),
                         .ids = ids.view(),
                         .weights = weights.view(),
                         .w1 = w1.w.view(),
                         .w3 = w3.w.view(),
                         .w2 = w2.w.view(),
                         .w1_scale = w1.scale_view(),
                         .w3_scale = w3.scale_view(),
                         .w2_scale = w2.scale_view(),
                         .first_expert = c.first,
                         .out = out.mut()};
      const absl::Status status = ops().Moe(stream(), args);
      if (LacksInt8(w_type, status)) continue;
      ASSERT_OK(status);
      Values want(At(c.t * c.h), 0.0);
      Values size(At(c.t * c.h), 0.0);
      for (int64_t t = 0; t < c.t; ++t) {
        const Values row(x.values().begin() + t * c.h, x.values().begin() + (t + 1) * c.h);
        for (int64_t i = 0; i < c.k; ++i) {
          const int64_t e = static_cast<int64_t>(id_values[At(t * c.k + i)]) - c.first;
          if (e < 0 || e >= c.held) continue;
          const double weight = weights.values()[At(t * c.k + i)];
          const int64_t at = e * c.f * c.h;
          const Values y =
              ref::Expert(row, w1.values.data() + at, w3.values.data() + at, w2.values.data() + at, c.h, c.f);
          const Values m = ref::Expert(row, w1.values.data() + at, w3.values.data() + at,
                                       w2.values.data() + at, c.h, c.f, /*magnitude=*/true);
          for (int64_t j = 0; j < c.h; ++j) {
            want[At(t * c.h + j)] += weight * y[At(j)];
            size[At(t * c.h + j)] += std::abs(weight) * m[At(j)];
          }
        }
      }
      EXPECT_TRUE(Near(out.shape(), out.Download(), want,
                       [&](size_t i) { return (2 * SumBound(c.h) + SumBound(c.f)) * size[i]; }));
    }
  }
}

TEST_P(OpSuite, MoeWantsScalesWithIntegersAndOnlyThen) {
  const Operand x = Input(DType::kF32, {1, 4});
  const Operand ids = InputOf(DType::kI32, {1, 1}, {0});
  const Operand weights = Input(DType::kF32, {1, 1});
  const Operand stored = Input(DType::kF32, {1, 4, 4});
  const Operand integers = InputOf(DType::kI8, {1, 4, 4}, Values(16, -3.0));
  const Operand scale = Input(DType::kF32, {1, 4});
  const Operand out = Output(DType::kF32, {1, 4});
  MoeArgs args{.x = x.view(),
               .ids = ids.view(),
               .weights = weights.view(),
               .w1 = integers.view(),
               .w3 = integers.view(),
               .w2 = integers.view(),
               .w1_scale = scale.view(),
               .w3_scale = scale.view(),
               .out = out.mut()};
  EXPECT_THAT(ops().Moe(stream(), args).message(),
              testing::HasSubstr("Moe: w2_scale: expected [E_local=1, H=4]"));
  args.w2_scale = scale.view();
  const absl::Status complete = ops().Moe(stream(), args);
  EXPECT_TRUE(complete.ok() || absl::IsUnimplemented(complete)) << complete;
  args.w2 = stored.view();
  EXPECT_THAT(ops().Moe(stream(), args).message(), testing::HasSubstr("Moe: w2: expected"));
  args.w1 = args.w3 = stored.view();
  EXPECT_THAT(ops().Moe(stream(), args).message(), testing::HasSubstr("scales belong to I8 weights"));
}

TEST_P(OpSuite, MoeRowsDoNotDependOnTheBatch) {
  constexpr int64_t kT = 40;
  constexpr int64_t kH = 48;
  constexpr int64_t kF = 56;
  for (const DType w_type : {DType::kF32, DType::kBF16}) {
    const Operand x = Input(DType::kF32, {kT, kH});
    const Operand w1 = Input(w_type, {4, kF, kH}, 0.2);
    const Operand w3 = Input(w_type, {4, kF, kH}, 0.2);
    const Operand w2 = Input(w_type, {4, kH, kF}, 0.2);
    Values id_values;
    for (int64_t t = 0; t < kT; ++t) {
      const int64_t first = Pick(0, 3);
      id_values.push_back(static_cast<double>(first));
      id_values.push_back(static_cast<double>((first + Pick(1, 3)) % 4));
    }
    const Operand ids = InputOf(DType::kI32, {kT, 2}, id_values);
    const Operand weights = Input(DType::kF32, {kT, 2});
    Values size(At(kT * kH), 0.0);
    for (int64_t i = 0; i < 2 * kT; ++i) {
      const Values row(x.values().begin() + i / 2 * kH, x.values().begin() + (i / 2 + 1) * kH);
      const auto at = static_cast<int64_t>(id_values[At(i)]) * kF * kH;
      const Values m = ref::Expert(row, w1.values().data() + at, w3.values().data() + at,
                                   w2.values().data() + at, kH, kF, /*magnitude=*/true);
      for (int64_t j = 0; j < kH; ++j)
        size[At(i / 2 * kH + j)] += std::abs(weights.values()[At(i)]) * m[At(j)];
    }
    auto run = [&](int64_t first, int64_t count) {
      const Operand out = Output(DType::kF32, {count, kH});
      EXPECT_OK(ops().Moe(stream(), {.x = x.view().Rows(first, count),
                                     .ids = ids.view().Rows(first, count),
                                     .weights = weights.view().Rows(first, count),
                                     .w1 = w1.view(),
                                     .w3 = w3.view(),
                                     .w2 = w2.view(),
                                     .first_expert = 0,
                                     .out = out.mut()}));
      return out.Download();
    };
    const Values all = run(0, kT);
    for (const int64_t t : {1, 2, 5, 17}) {
      const int64_t first = Pick(0, kT - t);
      const Values part(all.begin() + first * kH, all.begin() + (first + t) * kH);
      EXPECT_TRUE(SameRows(w_type, {t, kH}, run(first, t), part, [&](size_t i) {
        return (2 * SumBound(kH) + SumBound(kF)) * size[At(first * kH) + i];
      }));
    }
  }
}

}  // namespace
}  // namespace fulger
