// What the op suite cannot see: the accuracy of the vector functions, the promise of bits across code paths,
// and that a repeated step allocates nothing.
#include "kernels/cpu/kernels.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

constexpr double kUlp = 1.0 / (1 << 23);

std::vector<const cpu::Kernels*> Tables() {
  std::vector<const cpu::Kernels*> tables = {&cpu::PortableKernels()};
  if (cpu::Avx2Kernels() != nullptr) tables.push_back(cpu::Avx2Kernels());
  return tables;
}

// softmax of a row whose maximum is 0 leaves exp(x) behind.
TEST(Kernels, ExpIsGoodToTwoUlps) {
  for (const cpu::Kernels* k : Tables()) {
    double worst = 0;
    for (int64_t i = 0; i < 87000; i += 3) {
      float s[4] = {0.0F, static_cast<float>(-0.001 * static_cast<double>(i)),
                    static_cast<float>(-1e-6 * static_cast<double>(i)),
                    static_cast<float>(-0.69314718 * static_cast<double>(i) / 1000)};
      double want[4];
      for (int j = 0; j < 4; ++j) want[j] = std::exp(static_cast<double>(s[j]));
      float max = 1;
      k->softmax(s, 4, 4, &max);
      EXPECT_EQ(max, 0.0F);
      for (int j = 0; j < 4; ++j) {
        const double error = std::abs(static_cast<double>(s[j]) - want[j]) / (want[j] * kUlp);
        worst = std::max(worst, error);
      }
    }
    EXPECT_LT(worst, 2.0) << k->name;
  }
}

TEST(Kernels, ExpAtTheEdges) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const cpu::Kernels* k : Tables()) {
    float s[] = {0.0F, -95.0F, -104.5F, -1e30F, -inf};
    float max = 0;
    k->softmax(s, 5, 5, &max);
    EXPECT_NEAR(s[1] / 5.5e-42F, 1.0F, 0.01F) << k->name;  // subnormal: gradual underflow
    for (int i = 2; i < 5; ++i) EXPECT_EQ(s[i], 0.0F) << k->name << " " << i;
    float bad[] = {0.0F, std::numeric_limits<float>::quiet_NaN(), -1.0F};
    EXPECT_TRUE(std::isnan(k->softmax(bad, 3, 3, &max))) << k->name;
    // SiLU's exponential overflows on the far left: the answer is zero, not NaN.
    const float x[] = {-200.0F, -88.5F, 0.0F, 200.0F};
    const float one[] = {1.0F, 1.0F, 1.0F, 1.0F};
    float y[4];
    k->silu_mul(x, one, y, 4);
    EXPECT_EQ(y[0], 0.0F) << k->name;
    EXPECT_NEAR(y[1], 0.0F, 1e-30F) << k->name;
    EXPECT_EQ(y[2], 0.0F) << k->name;
    EXPECT_EQ(y[3], 200.0F) << k->name;
  }
}

TEST(Kernels, SoftmaxMasksWhatIsNotValid) {
  for (const cpu::Kernels* k : Tables()) {
    for (int64_t valid = 1; valid <= 19; ++valid) {
      std::vector<float> s(20, std::numeric_limits<float>::quiet_NaN());
      for (int64_t i = 0; i < valid; ++i) s[static_cast<size_t>(i)] = static_cast<float>(i % 7);
      float max = 0;
      const float sum = k->softmax(s.data(), valid, 19, &max);
      double want = 0;
      for (int64_t i = 0; i < valid; ++i)
        want += std::exp(static_cast<double>(i % 7) - static_cast<double>(max));
      EXPECT_NEAR(static_cast<double>(sum), want, 1e-5) << k->name << " " << valid;
      for (int64_t i = valid; i < 19; ++i) EXPECT_EQ(s[static_cast<size_t>(i)], 0.0F) << k->name;
      EXPECT_TRUE(std::isnan(s[19])) << k->name;
    }
  }
}

// Resident heap and mapped memory, as the C library counts it.
size_t HeapBytes() {
  const struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

TEST(Ops, ARepeatedStepAllocatesNothing) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "the sanitizer's allocator does not count";
#endif
  ASSERT_OK_AND_ASSIGN(const auto device, MakeDevice("cpu", {.threads = 2}));
  constexpr int64_t kT = 9;
  constexpr int64_t kH = 64;
  std::vector<float> memory(200000, 0.25F);
  std::vector<int32_t> ids(2 * kT, 1);
  auto view = [&](std::initializer_list<int64_t> shape) {
    return MutTensorView(memory.data(), DType::kF32, shape);
  };
  std::vector<float> out_memory(100000);
  auto out = [&](std::initializer_list<int64_t> shape) {
    return MutTensorView(out_memory.data(), DType::kF32, shape);
  };
  const std::vector<int32_t> blocks = {0, 1, 2};
  const AttentionSegment attention{.row = 0, .count = kT, .position = 3, .blocks = blocks};
  const LightningSegment lightning{.row = 0, .count = kT, .slot = 0};
  std::vector<float> cache(3 * 2 * 8 * 16);
  MutTensorView kv(cache.data(), DType::kF32, {3, 2, 8, 16});
  std::vector<float> state(4 * 16 * 16);
  MutTensorView states(state.data(), DType::kF32, {1, 4, 16, 16});
  const std::vector<float> inv_freq(4, 0.1F);
  std::vector<float> q_memory(kT * 64, 0.5F);
  MutTensorView q(q_memory.data(), DType::kF32, {kT, 4, 16});
  Ops& ops = device->ops();
  Stream& s = device->stream();
  auto step = [&] {
    EXPECT_OK(ops.Linear(s, {.x = view({kT, kH}), .w = view({kH, kH}), .bias = {}, .out = out({kT, kH})}));
    EXPECT_OK(ops.Lightning(s, {.qkv = view({kT, 4, 48}),
                                .slopes = view({4}),
                                .segments = {&lightning, 1},
                                .states = states,
                                .out = out({kT, kH}),
                                .block = 4}));
    EXPECT_OK(ops.RopeAndCache(s, {.q = q,
                                   .k = view({kT, 2, 16}),
                                   .v = view({kT, 2, 16}),
                                   .inv_freq = inv_freq,
                                   .segments = {&attention, 1},
                                   .k_cache = kv,
                                   .v_cache = kv}));
    EXPECT_OK(ops.PagedAttention(s, {.q = q,
                                     .k_cache = kv,
                                     .v_cache = kv,
                                     .segments = {&attention, 1},
                                     .scale = 0.25F,
                                     .out = out({kT, kH})}));
    EXPECT_OK(ops.Router(s, {.x = view({kT, kH}),
                             .gate = view({8, kH}),
                             .ids = MutTensorView(ids.data(), DType::kI32, {kT, 2}),
                             .weights = out({kT, 2})}));
    EXPECT_OK(ops.Moe(s, {.x = view({kT, kH}),
                          .ids = MutTensorView(ids.data(), DType::kI32, {kT, 2}),
                          .weights = view({kT, 2}),
                          .w1 = view({8, 32, kH}),
                          .w3 = view({8, 32, kH}),
                          .w2 = view({8, kH, 32}),
                          .first_expert = 0,
                          .out = out({kT, kH})}));
  };
  step();
  const size_t before = HeapBytes();
  step();
  step();
  EXPECT_EQ(HeapBytes(), before);
}

}  // namespace
}  // namespace fulger
