#include <cmath>

#include "kernels/suite/op_suite.h"
#include "kernels/suite/reference.h"

namespace fulger {
namespace {

struct Expected {
  Values out;
  Values out_size;
  Values state;
  Values state_size;
};

// The sequential form in double, and the scale of its rounding errors.
Expected Sequential(const Values& qkv, const Values& slopes, int64_t d, const Values& start) {
  Expected e;
  e.state = start;
  e.out = ref::Lightning(qkv, slopes, d, e.state);
  e.state_size = start;
  for (double& v : e.state_size) v = std::abs(v);
  e.out_size = ref::Lightning(qkv, slopes, d, e.state_size, /*magnitude=*/true);
  return e;
}

// d products per output, up to t terms per state element; the float32 decay is applied up to t times.
double Bound(int64_t t, int64_t d) {
  return SumBound(d + t) + 0.5 * kEps * static_cast<double>(t) + 16 * kEps;
}

struct LightningCase {
  int64_t heads, d, t;
};

TEST_P(OpSuite, LightningToyVector) {
  // model-spec: H = 4, L = 2, l = 0, h = 0, after SiLU. The op applies SiLU, so its inverse is fed.
  auto inverse_silu = [](double y) {
    double x = y >= 0 ? y + 0.5 : -0.9;  // both branches start inside SiLU's increasing part, x > -1.278
    for (int i = 0; i < 200; ++i) {
      const double s = 1 / (1 + std::exp(-x));
      x -= (x * s - y) / (s * (1 + x * (1 - s)));
    }
    return x;
  };
  // SiLU never goes below -0.2785, the toy's values do: q, k and v are scaled by 1/8; the output is linear in
  // each.
  constexpr double kScale = 1.0 / 8;
  const Values q = {1, .5, .25, -1, 2, 1};
  const Values k = {.5, 1, 1, -.5, -.25, .75};
  const Values v = {1, 2, -1, .5, .5, -2};
  Values qkv;
  for (size_t t = 0; t < 3; ++t) {
    for (const Values* part : {&q, &k, &v}) {
      for (size_t i = 0; i < 2; ++i) qkv.push_back(inverse_silu((*part)[2 * t + i] * kScale));
    }
  }
  const Values want = {1, 2, -1.43144898, -0.98789796, 0.169857, 2.51020964};
  const Values want_state = {-0.60053502, 1.49592705, 1.37092705, -0.48164445};
  for (const int64_t block : {1, 2, 256}) {
    const Operand in = InputOf(DType::kF32, {3, 1, 6}, qkv);
    const Operand slopes = InputOf(DType::kF32, {1}, {0.2500025});
    const Operand states = InputOf(DType::kF32, {1, 1, 2, 2}, {0, 0, 0, 0});
    const Operand out = Output(DType::kF32, {3, 2});
    const LightningSegment segment{.row = 0, .count = 3, .slot = 0};
    ASSERT_OK(ops().Lightning(stream(), {.qkv = in.view(),
                                         .slopes = slopes.view(),
                                         .segments = {&segment, 1},
                                         .states = states.mut(),
                                         .out = out.mut(),
                                         .block = block}));
    Values got = out.Download();
    for (double& x : got) x /= kScale * kScale * kScale;
    Values state = states.Download();
    for (double& x : state) x /= kScale * kScale;
    EXPECT_TRUE(Near(out.shape(), got, want, [](size_t) { return 1e-5; })) << "block " << block;
    EXPECT_TRUE(Near(states.shape(), state, want_state, [](size_t) { return 1e-5; })) << "block " << block;
  }
}

TEST_P(OpSuite, LightningBlocksAndChunksAgreeWithTheSequentialForm) {
  const LightningCase cases[] = {{1, 1, 1}, {3, 5, 9}, {2, 16, 70}, {4, 24, 130}, {1, 128, 300}, {2, 128, 1}};
  for (const LightningCase& c : cases) {
    const Values slope_values = [&] {
      Values s(static_cast<size_t>(c.heads));
      for (size_t h = 0; h < s.size(); ++h) s[h] = h == 0 ? 0.917 : 0.004 * static_cast<double>(h);
      return s;
    }();
    const Operand qkv = Input(DType::kF32, {c.t, c.heads, 3 * c.d}, 1.0, Pick(0, 3));
    const Operand slopes = InputOf(DType::kF32, {c.heads}, slope_values);
    const Values start = Random(3 * c.heads * c.d * c.d);
    const auto state_size = static_cast<size_t>(c.heads * c.d * c.d);
    const int32_t slot = static_cast<int32_t>(Pick(0, 2));
    const Values mine(start.begin() + static_cast<int64_t>(state_size) * slot,
                      start.begin() + static_cast<int64_t>(state_size) * (slot + 1));
    const Expected want = Sequential(qkv.values(), slopes.values(), c.d, mine);
    for (const int64_t block : {1, 4, 64, 256}) {
      for (const bool chunked : {false, true}) {
        SCOPED_TRACE(testing::Message() << "heads " << c.heads << " d " << c.d << " T " << c.t << " block "
                                        << block << (chunked ? " in chunks" : ""));
        const Operand states = InputOf(DType::kF32, {3, c.heads, c.d, c.d}, start);
        const Operand out = Output(DType::kF32, {c.t, c.heads * c.d}, Pick(0, 3));
        for (int64_t row = 0; row < c.t;) {
          const int64_t count = chunked ? Pick(1, c.t - row) : c.t - row;
          const LightningSegment segment{.row = row, .count = count, .slot = slot};
          ASSERT_OK(ops().Lightning(stream(), {.qkv = qkv.view(),
                                               .slopes = slopes.view(),
                                               .segments = {&segment, 1},
                                               .states = states.mut(),
                                               .out = out.mut(),
                                               .block = block}));
          row += count;
        }
        EXPECT_TRUE(Near(out.shape(), out.Download(), want.out,
                         [&](size_t i) { return Bound(c.t, c.d) * want.out_size[i]; }));
        const Values all = states.Download();
        Values got(all.begin() + static_cast<int64_t>(state_size) * slot,
                   all.begin() + static_cast<int64_t>(state_size) * (slot + 1));
        EXPECT_TRUE(Near({c.heads, c.d, c.d}, got, want.state,
                         [&](size_t i) { return Bound(c.t, c.d) * want.state_size[i]; }));
        for (size_t i = 0; i < all.size(); ++i) {
          if (i / state_size != static_cast<size_t>(slot)) {
            ASSERT_EQ(all[i], states.values()[i]) << "another slot's state changed at " << i;
          }
        }
      }
    }
  }
}

TEST_P(OpSuite, LightningPaddingTouchesNoState) {
  constexpr int64_t kHeads = 2;
  constexpr int64_t kD = 16;
  Values values = Random(7 * kHeads * 3 * kD);
  for (size_t i = 2 * kHeads * 3 * kD; i < 4 * kHeads * 3 * kD; ++i) {
    values[i] = std::numeric_limits<double>::quiet_NaN();  // what padding holds is nobody's business
  }
  const Operand qkv = InputOf(DType::kF32, {7, kHeads, 3 * kD}, values);
  const Operand slopes = InputOf(DType::kF32, {kHeads}, {0.5, 0.01});
  const Operand states = Input(DType::kF32, {2, kHeads, kD, kD});
  const Operand out = Output(DType::kF32, {7, kHeads * kD});
  const LightningSegment segments[] = {{0, 2, 1}, {2, 2, -1}, {4, 3, 0}, {7, 0, -1}};
  ASSERT_OK(ops().Lightning(stream(), {.qkv = qkv.view(),
                                       .slopes = slopes.view(),
                                       .segments = segments,
                                       .states = states.mut(),
                                       .out = out.mut(),
                                       .block = 64}));
  const Values got = out.Download();
  const Values all = states.Download();
  constexpr size_t kRow = kHeads * kD;
  constexpr size_t kState = kHeads * kD * kD;
  for (size_t i = 2 * kRow; i < 4 * kRow; ++i) EXPECT_EQ(got[i], 0.0) << "padding row element " << i;
  for (const LightningSegment& s : {segments[0], segments[2]}) {
    const auto begin = static_cast<int64_t>(s.row) * 3 * static_cast<int64_t>(kRow);
    const Values part(qkv.values().begin() + begin,
                      qkv.values().begin() + begin + s.count * 3 * static_cast<int64_t>(kRow));
    const auto slot = static_cast<int64_t>(kState) * s.slot;
    const Values start(states.values().begin() + slot,
                       states.values().begin() + slot + static_cast<int64_t>(kState));
    const Expected want = Sequential(part, slopes.values(), kD, start);
    const Values mine(got.begin() + s.row * static_cast<int64_t>(kRow),
                      got.begin() + (s.row + s.count) * static_cast<int64_t>(kRow));
    EXPECT_TRUE(Near({s.count, kHeads * kD}, mine, want.out,
                     [&](size_t i) { return Bound(s.count, kD) * want.out_size[i]; }));
    const Values end(all.begin() + slot, all.begin() + slot + static_cast<int64_t>(kState));
    EXPECT_TRUE(Near({kHeads, kD, kD}, end, want.state,
                     [&](size_t i) { return Bound(s.count, kD) * want.state_size[i]; }));
  }
}

TEST_P(OpSuite, LightningDecodeRowsDoNotDependOnTheBatch) {
  constexpr int64_t kHeads = 3;
  constexpr int64_t kD = 32;
  constexpr int64_t kT = 9;
  const Operand qkv = Input(DType::kF32, {kT, kHeads, 3 * kD});
  const Operand slopes = InputOf(DType::kF32, {kHeads}, {0.9, 0.1, 0.001});
  const Values start = Random(kT * kHeads * kD * kD);
  const Operand together = InputOf(DType::kF32, {kT, kHeads, kD, kD}, start);
  const Operand alone = InputOf(DType::kF32, {kT, kHeads, kD, kD}, start);
  const Operand out_together = Output(DType::kF32, {kT, kHeads * kD});
  const Operand out_alone = Output(DType::kF32, {kT, kHeads * kD});
  std::vector<LightningSegment> segments;
  for (int32_t t = 0; t < kT; ++t)
    segments.push_back({.row = t, .count = 1, .slot = static_cast<int32_t>(kT) - 1 - t});
  LightningArgs args{.qkv = qkv.view(),
                     .slopes = slopes.view(),
                     .segments = segments,
                     .states = together.mut(),
                     .out = out_together.mut(),
                     .block = 256};
  ASSERT_OK(ops().Lightning(stream(), args));
  args.states = alone.mut();
  args.out = out_alone.mut();
  for (const LightningSegment& s : segments) {
    args.segments = {&s, 1};
    ASSERT_OK(ops().Lightning(stream(), args));
  }
  EXPECT_TRUE(Same(out_alone.shape(), out_alone.Download(), out_together.Download()));
  EXPECT_TRUE(Same(alone.shape(), alone.Download(), together.Download()));
}

TEST_P(OpSuite, LightningGateAndScaleMatchTheReference) {
  for (const int64_t width : {1, 13, 64, 515}) {
    const int64_t t = Pick(0, 11);
    const Operand o = Input(DType::kF32, {t, width}, 1.0, Pick(0, 3));
    const Operand gate = Input(DType::kF32, {t, width}, 4.0, Pick(0, 3));
    const Operand w = Input(Pick(0, 1) == 0 ? DType::kF32 : DType::kBF16, {width});
    const Operand out = Output(DType::kF32, {t, width}, Pick(0, 3));
    const Operand sumsq = Output(DType::kF32, {t}, Pick(0, 3));
    Values want(o.values().size());
    Values want_sum(static_cast<size_t>(t), 0.0);
    for (size_t i = 0; i < want.size(); ++i) {
      const size_t column = i % static_cast<size_t>(width);
      want[i] = o.values()[i] * w.values()[column] / (1 + std::exp(-gate.values()[i]));
      want_sum[i / static_cast<size_t>(width)] += o.values()[i] * o.values()[i];
    }
    ASSERT_OK(ops().LightningGate(
        stream(),
        {.o = o.view(), .gate = gate.view(), .w = w.view(), .out = out.mut(), .sumsq = sumsq.mut()}));
    // Below 1e-38 a sigmoid may flush to zero.
    auto bound = [&](size_t i) { return 8 * kEps * std::abs(want[i]) + 1e-36; };
    EXPECT_TRUE(Near(out.shape(), out.Download(), want, bound));
    EXPECT_TRUE(Near(sumsq.shape(), sumsq.Download(), want_sum,
                     [&](size_t i) { return SumBound(width) * want_sum[i]; }));
    // out may be gate, or o.
    const Operand o_copy = InputOf(DType::kF32, {t, width}, o.values());
    ASSERT_OK(ops().LightningGate(
        stream(),
        {.o = o_copy.view(), .gate = gate.view(), .w = w.view(), .out = o_copy.mut(), .sumsq = sumsq.mut()}));
    EXPECT_TRUE(Near(o_copy.shape(), o_copy.Download(), want, bound));
    ASSERT_OK(ops().LightningGate(
        stream(),
        {.o = o.view(), .gate = gate.view(), .w = w.view(), .out = gate.mut(), .sumsq = sumsq.mut()}));
    EXPECT_TRUE(Near(gate.shape(), gate.Download(), want, bound));

    const Operand x = Input(DType::kF32, {t, 21}, 1.0, Pick(0, 3));
    Values scaled = x.values();
    const Values sums = sumsq.Download();
    for (size_t i = 0; i < scaled.size(); ++i) scaled[i] /= std::sqrt(sums[i / 21] / 4096 + 1e-6);
    ASSERT_OK(ops().ScaleByRms(stream(), {.x = x.mut(), .sumsq = sumsq.view(), .width = 4096, .eps = 1e-6F}));
    EXPECT_TRUE(
        Near(x.shape(), x.Download(), scaled, [&](size_t i) { return 3 * kEps * std::abs(scaled[i]); }));
  }
}

// The sigmoid of an infinity is 0 or 1 and would hide it.
TEST_P(OpSuite, LightningGateOfAnInfinityIsNoNumber) {
  const double inf = std::numeric_limits<double>::infinity();
  constexpr int64_t kT = 4, kWidth = 19;
  Values g = Random(kT * kWidth);
  g[1 * kWidth + 18] = inf;
  g[2 * kWidth] = -inf;
  g[3 * kWidth + 7] = std::numeric_limits<double>::quiet_NaN();
  const Operand gate = InputOf(DType::kF32, {kT, kWidth}, g);
  const Operand o = Input(DType::kF32, {kT, kWidth});
  const Operand w = Input(DType::kF32, {kWidth});
  const Operand out = Output(DType::kF32, {kT, kWidth});
  const Operand sumsq = Output(DType::kF32, {kT});
  ASSERT_OK(ops().LightningGate(
      stream(), {.o = o.view(), .gate = gate.view(), .w = w.view(), .out = out.mut(), .sumsq = sumsq.mut()}));
  const Values sums = sumsq.Download();
  EXPECT_TRUE(std::isfinite(sums[0]));
  for (size_t row = 1; row < 4; ++row) EXPECT_TRUE(std::isnan(sums[row])) << "row " << row;
}

}  // namespace
}  // namespace fulger
