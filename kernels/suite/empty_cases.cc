// Every op with nothing to do: no rows, no segments, no tiles. It succeeds and touches nothing (the guards of
// every operand are read back).
#include "kernels/suite/op_suite.h"

namespace fulger {
namespace {

TEST_P(OpSuite, NoRowsAreNoWorkForTheNorms) {
  const Operand none = Input(DType::kF32, {0, 24});
  const Operand w = Input(DType::kF32, {24});
  const Operand b = Input(DType::kF32, {24});
  const Operand out = Output(DType::kF32, {0, 24});
  const Operand health = Output(DType::kI32, {0});
  ASSERT_OK(ops().RmsNorm(
      stream(), {.x = none.view(), .w = w.view(), .out = out.mut(), .health = {.rows = health.mut()}}));
  ASSERT_OK(ops().AddRmsNorm(stream(), {.residual = none.view(),
                                        .branch = none.view(),
                                        .w = w.view(),
                                        .out = out.mut(),
                                        .health = {.rows = health.mut()}}));
  ASSERT_OK(ops().AddScaled(stream(), {.a = none.view(), .b = none.view(), .out = out.mut()}));
  ASSERT_OK(ops().LayerNorm(stream(), {.x = none.view(), .w = w.view(), .b = b.view(), .out = out.mut()}));
  const Operand sumsq = Output(DType::kF32, {0});
  ASSERT_OK(ops().LightningGate(
      stream(),
      {.o = none.view(), .gate = none.view(), .w = w.view(), .out = out.mut(), .sumsq = sumsq.mut()}));
  ASSERT_OK(ops().ScaleByRms(stream(), {.x = none.mut(), .sumsq = sumsq.view(), .width = 24}));
  ASSERT_OK(stream().Synchronize());
  for (const Operand* o : {&none, &out, &health, &sumsq}) EXPECT_TRUE(o->Download().empty());
}

TEST_P(OpSuite, NoRowsAreNoWorkForRowMoves) {
  const Operand table = Input(DType::kF32, {5, 24});
  const Operand none = Input(DType::kF32, {0, 24});
  const Operand index = Output(DType::kI32, {0});
  const Operand out = Output(DType::kF32, {0, 24});
  ASSERT_OK(ops().Embedding(stream(), {.ids = index.view(), .table = table.view(), .out = out.mut()}));
  ASSERT_OK(
      ops().GatherRows(stream(), {.src = table.view(), .index = index.view(), .fill = {}, .out = out.mut()}));
  ASSERT_OK(ops().ScatterRows(stream(), {.src = none.view(), .index = index.view(), .out = table.mut()}));
  ASSERT_OK(ops().Gelu(stream(), {.x = none.mut()}));
  ASSERT_OK(stream().Synchronize());
  EXPECT_TRUE(Same(table.shape(), table.Download(), table.values())) << "scattering no rows wrote one";
}

TEST_P(OpSuite, NoRowsAreNoWorkForAttention) {
  constexpr int64_t kHeads = 4, kKvHeads = 2, kDim = 8;
  const Operand q = Input(DType::kF32, {0, kHeads, kDim});
  const Operand kv = Input(DType::kF32, {0, kKvHeads, kDim});
  const Operand k_cache = Input(DType::kF32, {3, kKvHeads, 4, kDim});
  const Operand v_cache = Input(DType::kF32, {3, kKvHeads, 4, kDim});
  const Operand out = Output(DType::kF32, {0, kHeads * kDim});
  const std::vector<float> inv_freq = {1.0F, 0.1F};
  const std::vector<int32_t> blocks = {1};
  // Without a segment, and with one that has no rows.
  const std::vector<AttentionSegment> some = {{.row = 0, .count = 0, .position = 2, .blocks = blocks}};
  const std::vector<std::span<const AttentionSegment>> both = {{}, some};
  for (const auto& segments : both) {
    ASSERT_OK(ops().RopeAndCache(stream(), {.q = q.mut(),
                                            .k = kv.view(),
                                            .v = kv.view(),
                                            .inv_freq = inv_freq,
                                            .segments = segments,
                                            .k_cache = k_cache.mut(),
                                            .v_cache = v_cache.mut()}));
    ASSERT_OK(ops().PagedAttention(stream(), {.q = q.view(),
                                              .k_cache = k_cache.view(),
                                              .v_cache = v_cache.view(),
                                              .segments = segments,
                                              .out = out.mut()}));
  }
  ASSERT_OK(stream().Synchronize());
  EXPECT_TRUE(Same(k_cache.shape(), k_cache.Download(), k_cache.values()));
  EXPECT_TRUE(Same(v_cache.shape(), v_cache.Download(), v_cache.values()));
}

TEST_P(OpSuite, NoRowsAreNoWorkForLightning) {
  constexpr int64_t kHeads = 2, kDim = 8;
  const Operand qkv = Input(DType::kF32, {0, kHeads, 3 * kDim});
  const Operand slopes = InputOf(DType::kF32, {kHeads}, {0.5, 0.25});
  const Operand states = Input(DType::kF32, {3, kHeads, kDim, kDim});
  const Operand out = Output(DType::kF32, {0, kHeads * kDim});
  const std::vector<LightningSegment> some = {{.row = 0, .count = 0, .slot = 1}};
  const std::vector<std::span<const LightningSegment>> both = {{}, some};
  for (const auto& segments : both) {
    ASSERT_OK(ops().Lightning(stream(), {.qkv = qkv.view(),
                                         .slopes = slopes.view(),
                                         .segments = segments,
                                         .states = states.mut(),
                                         .out = out.mut()}));
  }
  ASSERT_OK(stream().Synchronize());
  EXPECT_TRUE(Same(states.shape(), states.Download(), states.values())) << "no token, and the state decayed";
}

}  // namespace
}  // namespace fulger
