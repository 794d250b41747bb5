// What the op suite cannot see: the accuracy of the vector functions, the promise of bits across code paths,
// and that a repeated step allocates nothing.
#include "kernels/cpu/kernels.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "base/bfloat16.h"
#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

constexpr double kUlp = 1.0 / (1 << 23);

std::vector<const cpu::Kernels*> Tables() {
  std::vector<const cpu::Kernels*> tables = {&cpu::PortableKernels()};
  if (cpu::Avx2Kernels() != nullptr) tables.push_back(cpu::Avx2Kernels());
  if (cpu::Avx512Kernels() != nullptr) tables.push_back(cpu::Avx512Kernels());
  return tables;
}

class Random {
 public:
  std::vector<float> Floats(int64_t n) {
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = normal_(rng_);
    return x;
  }
  // bfloat16 or int8 weights: as many bytes.
  std::vector<char> Weights(cpu::WeightType type, int64_t n) {
    const std::vector<float> x = Floats(n);
    if (type == cpu::WeightType::kF32) return Bytes(x);
    std::vector<uint16_t> bf16;
    std::vector<int8_t> i8;
    for (const float v : x) {
      bf16.push_back(FloatToBF16(v));
      i8.push_back(static_cast<int8_t>(std::lrint(40 * std::tanh(v))));
    }
    return type == cpu::WeightType::kBF16 ? Bytes(bf16) : Bytes(i8);
  }

 private:
  template <typename T>
  static std::vector<char> Bytes(const std::vector<T>& x) {
    const auto* p = reinterpret_cast<const char*>(x.data());
    return {p, p + x.size() * sizeof(T)};
  }
  std::mt19937_64 rng_{7};
  std::normal_distribution<float> normal_;
};

// LinearBlock's promise: a row alone, in any batch and over any cut of the columns has the same bits, and so
// has every table of the same arithmetic.
TEST(Kernels, LinearBitsDependOnNothingButTheRow) {
  Random random;
  std::vector<float> work(cpu::kLinearWork);
  constexpr int64_t kRows = 200;
  for (const cpu::WeightType type : {cpu::WeightType::kF32, cpu::WeightType::kBF16, cpu::WeightType::kI8}) {
    for (const int64_t k : {5, 16, 100, 512, 700, 1536}) {
      for (const int64_t n : {1, 7, 8, 19, 64}) {
        const std::vector<float> x = random.Floats(kRows * k);
        const std::vector<char> w = random.Weights(type, n * k);
        const std::vector<float> scale = random.Floats(n);
        const std::vector<float> bias = random.Floats(n);
        std::map<std::string, std::vector<float>> alone;  // by arithmetic
        for (const cpu::Kernels* kernels : Tables()) {
          cpu::LinearBlock b{.x = x.data(),
                             .ldx = k,
                             .w = w.data(),
                             .ldw = k,
                             .w_scale = type == cpu::WeightType::kI8 ? scale.data() : nullptr,
                             .bias = n % 2 == 0 ? nullptr : bias.data(),
                             .w_type = type,
                             .ldo = n,
                             .n = n,
                             .k = k,
                             .work = work.data()};
          std::vector<float>& expected = alone[kernels->arithmetic];
          if (expected.empty()) {
            expected.resize(static_cast<size_t>(kRows * n));
            for (int64_t i = 0; i < kRows; ++i) {
              cpu::LinearBlock row = b;
              row.x += i * k;
              row.out = expected.data() + i * n;
              row.t = 1;
              kernels->linear(row);
            }
          }
          for (const int64_t t : {1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 25, 200}) {
            std::vector<float> out(static_cast<size_t>(t * n), NAN);
            b.out = out.data();
            b.t = t;
            kernels->linear(b);
            ASSERT_EQ(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)), 0)
                << kernels->name << " type " << static_cast<int>(type) << " t " << t << " n " << n << " k "
                << k;
          }
        }
      }
    }
  }
}

// The other kernels of two tables that claim the same arithmetic.
TEST(Kernels, TablesOfOneArithmeticAgreeInEveryBit) {
  Random random;
  std::map<std::string, std::vector<float>> first;  // by arithmetic
  const std::vector<float> a = random.Floats(1 << 16);
  const std::vector<float> c = random.Floats(1 << 16);
  for (const cpu::Kernels* k : Tables()) {
    std::vector<float> all;
    for (const int64_t n : {1, 9, 16, 37, 128, 333}) {
      std::vector<float> out(static_cast<size_t>(n));
      const auto keep = [&](std::initializer_list<float> scalars) {
        all.insert(all.end(), out.begin(), out.end());
        all.insert(all.end(), scalars);
      };
      float max = 0;
      keep({k->sum_squares(a.data(), n), k->sum(a.data(), n), k->sum_squares_around(a.data(), 0.1F, n)});
      k->scale_by(a.data(), 0.3F, c.data(), false, out.data(), n);
      keep({});
      k->normalize(a.data(), 0.1F, 0.7F, c.data(), false, a.data() + n, false, out.data(), n);
      keep({});
      k->add_scaled(a.data(), 0.3F, c.data(), 1.1F, out.data(), n);
      keep({});
      const float sum = k->gate(a.data(), c.data(), a.data() + n, false, out.data(), n);
      keep({sum});
      k->silu_mul(a.data(), c.data(), out.data(), n);
      keep({});
      k->gelu(out.data(), n);
      keep({});
      const float total = k->softmax(out.data(), n - n / 3, n, &max);
      keep({total, max});
      std::vector<float> product(static_cast<size_t>(13 * n), 0.5F);
      k->product({.a = a.data(),
                  .a_row = 21,
                  .b = c.data(),
                  .ldb = n,
                  .c = product.data(),
                  .ldc = n,
                  .c_scale = 0.9F,
                  .m = 13,
                  .n = n,
                  .k = 21});
      all.insert(all.end(), product.begin(), product.end());
    }
    for (const int64_t d : {20, 96, 128}) {
      for (const int64_t m : {1, 2, 40}) {
        std::vector<float> state(a.begin(), a.begin() + d * d);
        std::vector<float> out(static_cast<size_t>(m * d));
        std::vector<float> decay(static_cast<size_t>(m + 1));
        for (size_t i = 0; i < decay.size(); ++i) decay[i] = std::exp(-0.1F * static_cast<float>(i));
        std::vector<float> work(static_cast<size_t>(cpu::LightningWork(m, d)));
        k->lightning({.qkv = c.data(),
                      .ld_qkv = 3 * d,
                      .m = m,
                      .d = d,
                      .decay = decay.data(),
                      .state = state.data(),
                      .out = out.data(),
                      .ldo = d,
                      .work = work.data()});
        all.insert(all.end(), state.begin(), state.end());
        all.insert(all.end(), out.begin(), out.end());
      }
    }
    const auto [at, inserted] = first.try_emplace(k->arithmetic, all);
    ASSERT_EQ(at->second.size(), all.size());
    EXPECT_EQ(std::memcmp(at->second.data(), all.data(), all.size() * sizeof(float)), 0) << k->name;
  }
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
