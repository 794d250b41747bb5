#include <algorithm>
#include <cmath>

#include "kernels/suite/op_suite.h"
#include "kernels/suite/reference.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST_P(OpSuite, EmbeddingTakesHeldRowsAndZerosTheRest) {
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const int64_t h = Pick(1, 70);
    const Operand table = Input(type, {5, h}, 1.0, Pick(0, 2));
    const Operand ids = InputOf(DType::kI32, {6}, {10, 14, 9, 15, 12, 0});
    const Operand out = Output(DType::kF32, {6, h}, Pick(0, 2));
    ASSERT_OK(ops().Embedding(stream(),
                              {.ids = ids.view(), .table = table.view(), .first_row = 10, .out = out.mut()}));
    Values want;
    for (const int64_t row : {0, 4, -1, 5, 2, -10}) {
      for (int64_t i = 0; i < h; ++i) {
        want.push_back(row < 0 || row > 4 ? 0.0 : table.values()[static_cast<size_t>(row * h + i)]);
      }
    }
    EXPECT_TRUE(Same(out.shape(), out.Download(), want));
  }
}

TEST_P(OpSuite, GatherTakesRowsOrTheFill) {
  const int64_t h = Pick(1, 70);
  const Operand src = Input(DType::kF32, {4, h}, 1.0, Pick(0, 2));
  const Operand index = InputOf(DType::kI32, {5}, {3, -1, 0, 0, 2});
  const Operand fill = Input(DType::kBF16, {h});
  const Operand out = Output(DType::kF32, {5, h}, Pick(0, 2));
  for (const bool with_fill : {true, false}) {
    ASSERT_OK(ops().GatherRows(stream(), {.src = src.view(),
                                          .index = index.view(),
                                          .fill = with_fill ? fill.view() : TensorView(),
                                          .out = out.mut()}));
    Values want;
    for (const int64_t row : {3, -1, 0, 0, 2}) {
      for (int64_t i = 0; i < h; ++i) {
        const auto at = static_cast<size_t>(i);
        want.push_back(row >= 0 ? src.values()[static_cast<size_t>(row * h + i)]
                                : (with_fill ? fill.values()[at] : 0.0));
      }
    }
    EXPECT_TRUE(Same(out.shape(), out.Download(), want));
  }
}

TEST_P(OpSuite, ScatterLeavesOtherRowsAlone) {
  const int64_t h = Pick(1, 70);
  const Operand src = Input(DType::kF32, {2, h}, 1.0, Pick(0, 2));
  const Operand index = InputOf(DType::kI32, {2}, {3, 1});
  const Operand out = Input(DType::kF32, {5, h}, 1.0, Pick(0, 2));
  Values want = out.values();
  std::copy_n(src.values().begin(), h, want.begin() + 3 * h);
  std::copy_n(src.values().begin() + h, h, want.begin() + h);
  ASSERT_OK(ops().ScatterRows(stream(), {.src = src.view(), .index = index.view(), .out = out.mut()}));
  EXPECT_TRUE(Same(out.shape(), out.Download(), want));
}

TEST_P(OpSuite, GeluMatchesTheReference) {
  Values values = Random(6 * 1001, 3.0);
  for (size_t i = 0; i < 1001; ++i) values[i] = -15.0 + 0.03 * static_cast<double>(i);
  values[5] = 0.0;
  values[6] = 1e30;
  values[7] = -1e30;
  const Operand x = InputOf(DType::kF32, {6, 1001}, values, Pick(0, 2));
  Values want;
  for (const double v : x.values()) want.push_back(ref::Gelu(v));
  ASSERT_OK(ops().Gelu(stream(), {.x = x.mut()}));
  // Rounding of x^2 / 2 inside the exponential enlarges with x^2; below -12 the result is zero for float32.
  EXPECT_TRUE(Near(x.shape(), x.Download(), want, [&](size_t i) {
    const double v = x.values()[i];
    if (v < -12) return 1e-30 * std::abs(v);
    return (8 + std::min(v * v, 144.0)) * kEps * std::abs(want[i]);
  }));
}

TEST_P(OpSuite, WrongOperandsAreNamed) {
  const Operand x = Input(DType::kF32, {2, 64});
  const Operand w = Input(DType::kBF16, {4, 63});
  const Operand out = Output(DType::kF32, {2, 4});
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(ops().Linear(stream(), {.x = x.view(), .w = w.view(), .bias = {}, .out = out.mut()}),
              StatusIs(invalid, "Linear: w: expected [N=4, K=64] F32|BF16|I8, got [4, 63] BF16"));
  const Operand ids = Output(DType::kI32, {2, 64});
  EXPECT_THAT(ops().Linear(stream(), {.x = ids.view(), .w = w.view(), .bias = {}, .out = out.mut()}),
              StatusIs(invalid, AllOf(HasSubstr("Linear: x:"), HasSubstr("F32, got [2, 64] I32"))));
  EXPECT_THAT(
      ops().RmsNorm(stream(), {.x = x.view(), .w = w.view(), .eps = 1e-5F, .out = x.mut(), .health = {}}),
      StatusIs(invalid, "RmsNorm: w: expected [H=64] F32|BF16, got [4, 63] BF16"));
  EXPECT_THAT(ops().Gelu(stream(), {.x = w.mut()}), StatusIs(invalid, HasSubstr("Gelu: x:")));
  EXPECT_THAT(ops().Gelu(stream(), {.x = MutTensorView(nullptr, DType::kF32, {2, 2})}),
              StatusIs(invalid, "Gelu: x [2, 2] F32: the pointer is null"));

  const Operand states = Input(DType::kF32, {1, 2, 4, 4});
  const Operand slopes = InputOf(DType::kF32, {2}, {0.1, 0.2});
  const Operand qkv = Input(DType::kF32, {3, 2, 12});
  const Operand o = Output(DType::kF32, {3, 8});
  LightningSegment segment{.row = 0, .count = 3, .slot = 1};
  LightningArgs lightning{.qkv = qkv.view(),
                          .slopes = slopes.view(),
                          .segments = {&segment, 1},
                          .states = states.mut(),
                          .out = o.mut(),
                          .block = 256};
  EXPECT_THAT(ops().Lightning(stream(), lightning),
              StatusIs(invalid, "Lightning: segment 0: slot 1 is outside [-1, 1)"));
  segment = {.row = 1, .count = 3, .slot = 0};
  EXPECT_THAT(ops().Lightning(stream(), lightning),
              StatusIs(invalid, "Lightning: segment 0: rows [1, 4) are outside [0, 3)"));
  segment = {.row = 0, .count = 3, .slot = 0};
  const Operand narrow = Input(DType::kF32, {3, 2, 9});
  lightning.qkv = narrow.view();
  EXPECT_THAT(ops().Lightning(stream(), lightning),
              StatusIs(invalid, "Lightning: qkv: expected [T=3, heads=2, 3d=12] F32, got [3, 2, 9] F32"));

  const Operand index = InputOf(DType::kI32, {2}, {1, 2});
  EXPECT_THAT(Finished(ops().GatherRows(
                  stream(), {.src = x.view(), .index = index.view(), .fill = {}, .out = x.mut()})),
              StatusIs(invalid, "GatherRows: index[1] = 2 is outside [-1, 2)"));
  EXPECT_THAT(Finished(ops().ScatterRows(stream(), {.src = x.view(), .index = index.view(), .out = x.mut()})),
              StatusIs(invalid, "ScatterRows: index[1] = 2 is outside [0, 2)"));
  EXPECT_OK(stream().Synchronize());  // told once
  o.Download();
  out.Download();
}

TEST_P(OpSuite, AttentionRefusesWrongTables) {
  const Operand q = Input(DType::kF32, {2, 3, 8});
  const Operand k_cache = Input(DType::kF32, {4, 2, 4, 8});
  const Operand one_head = Input(DType::kF32, {4, 1, 4, 8});
  const Operand out = Output(DType::kF32, {2, 24});
  std::vector<int32_t> table = {0};
  AttentionSegment segment{.row = 0, .count = 2, .position = 3, .blocks = table};
  PagedAttentionArgs args{.q = q.view(),
                          .k_cache = k_cache.view(),
                          .v_cache = k_cache.view(),
                          .segments = {&segment, 1},
                          .scale = 1,
                          .out = out.mut()};
  const auto invalid = absl::StatusCode::kInvalidArgument;
  EXPECT_THAT(ops().PagedAttention(stream(), args),
              StatusIs(invalid, "PagedAttention: q: 3 heads are not a multiple of 2 kv heads"));
  args.k_cache = one_head.view();
  args.v_cache = one_head.view();
  EXPECT_THAT(
      ops().PagedAttention(stream(), args),
      StatusIs(invalid, "PagedAttention: segment 0: positions up to 5 need more than its 1 blocks of 4"));
  table[0] = 4;
  segment.position = 0;
  EXPECT_THAT(ops().PagedAttention(stream(), args),
              StatusIs(invalid, "PagedAttention: segment 0: block 4 is outside [0, 4)"));
  out.Download();
}

}  // namespace
}  // namespace fulger
