// The inner kernels of the CPU backend, on raw pointers and one thread, as a table per instruction set. The
// op files check arguments, cut the work and call through the table; they are compiled for the baseline
// processor.
//
// Elements of a weight as they lie in memory: float, uint16_t bits of a bfloat16, or int8_t with a scale per
// row.
#pragma once

#include <cstdint>

namespace fulger::cpu {

enum class WeightType : uint8_t { kF32, kBF16, kI8 };

// out[i, j] = (x[i] . w[j]) * w_scale[j] + bias[j].  One order of summation over k for every t, n and code
// path: k is cut into runs of kLinearRun; within a run lane l of eight sums, in order, k = l, l + 8, ... (of
// a bfloat16 weight k = 2l, 2l + 1, 2l + 16, 2l + 17, ...: so they widen in one operation), then the lanes
// are added as a fixed tree; the runs' sums are added in order. So a row's bits depend on neither t nor how
// the work was cut.
struct LinearBlock {
  const float* x = nullptr;
  int64_t ldx = 0;
  const void* w = nullptr;
  int64_t ldw = 0;
  const float* w_scale = nullptr;  // null: 1
  const void* bias = nullptr;      // null: none
  WeightType w_type = WeightType::kF32;
  bool bias_bf16 = false;
  float* out = nullptr;
  int64_t ldo = 0;
  int64_t t = 0;
  int64_t n = 0;
  int64_t k = 0;
  float* work = nullptr;  // kLinearWork floats
};
inline constexpr int64_t kLinearRun = 512;
inline constexpr int64_t kLinearTileT = 192;  // rows of x in the second cache: 384 KiB
inline constexpr int64_t kLinearPanel = 8;    // rows of w in the first: 16 KiB
inline constexpr int64_t kLinearTileN = 128;  // columns worth packing x for
inline constexpr int64_t kLinearWork = (kLinearPanel + kLinearTileT) * kLinearRun;

// c[i, j] = c_scale * c[i, j] + sum_p a[i * a_row + p * a_col] * b[p, j], p in order. c_scale 0 overwrites
// without reading. b is float or bf16, its rows contiguous.
struct ProductBlock {
  const float* a = nullptr;
  int64_t a_row = 0;
  int64_t a_col = 1;
  const void* b = nullptr;
  int64_t ldb = 0;
  bool b_bf16 = false;
  float* c = nullptr;
  int64_t ldc = 0;
  float c_scale = 0;
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
};

// Lightning attention of one head: m tokens continuing from `state`, which is updated. qkv points at the
// head's q of the first token, rows ld_qkv apart. decay[i] = exp(-slope * i), i in [0, m].
struct LightningBlock {
  const float* qkv = nullptr;
  int64_t ld_qkv = 0;
  int64_t m = 0;
  int64_t d = 0;
  const float* decay = nullptr;
  float* state = nullptr;
  float* out = nullptr;
  int64_t ldo = 0;
  float* work = nullptr;  // LightningWork(m, d) floats
};
inline constexpr int64_t kLightningRows = 32;
inline constexpr int64_t LightningWork(int64_t m, int64_t d) { return (4 * d + kLightningRows) * m; }

struct Kernels {
  const char* name;
  // Tables of one arithmetic give the same bits: "fma" or "portable", which rounds products.
  const char* arithmetic;
  // Up to this many rows of x the weight streams from memory; more are worth packing.
  int64_t linear_direct;

  void (*linear)(const LinearBlock& b);
  void (*product)(const ProductBlock& b);
  void (*lightning)(const LightningBlock& b);

  // Row primitives; n elements, in and out may be the same pointer.
  float (*sum_squares)(const float* x, int64_t n);
  float (*sum)(const float* x, int64_t n);
  float (*sum_squares_around)(const float* x, float mean, int64_t n);
  // out = x * scale * w  (w null: 1)
  void (*scale_by)(const float* x, float scale, const void* w, bool w_bf16, float* out, int64_t n);
  // out = (x - mean) * scale * w + b
  void (*normalize)(const float* x, float mean, float scale, const void* w, bool w_bf16, const void* b,
                    bool b_bf16, float* out, int64_t n);
  void (*add_scaled)(const float* a, float alpha, const float* b, float beta, float* out, int64_t n);
  // out = sigmoid(gate) * w * o; returns the sum of o^2, NaN where a gate is not finite
  float (*gate)(const float* o, const float* gate, const void* w, bool w_bf16, float* out, int64_t n);
  // out = silu(a) * b
  void (*silu_mul)(const float* a, const float* b, float* out, int64_t n);
  void (*gelu)(float* x, int64_t n);
  // s[i] = exp(s[i] - max) for i < valid and 0 for valid <= i < n; returns the sum, writes the maximum.
  float (*softmax)(float* s, int64_t valid, int64_t n, float* max);
  // Multiplies and adds on full registers and nothing else; returns how many floating-point operations that
  // were. What the processor can do at most, for measurements.
  double (*fused_multiply_adds)(int64_t rounds);
  // out = row as float
  void (*widen)(const void* row, bool bf16, float* out, int64_t n);
};

const Kernels& PortableKernels();
// Tables that were compiled and that this processor can run; otherwise null.
const Kernels* Avx2Kernels();    // AVX2, FMA, BMI2
const Kernels* Avx512Kernels();  // AVX-512 F, BW, DQ, VL

}  // namespace fulger::cpu
