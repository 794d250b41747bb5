// The inner kernels of the CPU backend, on raw pointers and one thread, as a table per instruction set. The
// op files check arguments, cut the work and call through the table; they are compiled for the baseline
// processor.
//
// Element type of a weight: `bf16` true means uint16_t bits, false float.
#pragma once

#include <cstdint>

namespace fulger::cpu {

// out[i, j] = x[i] . w[j] + bias[j].  One order of summation over k for every t, n and code path: lane l of
// eight sums k = l, l + 8, ... in order, then the lanes are added as a fixed tree. So a row's bits depend on
// neither t nor how the work was cut.
struct LinearBlock {
  const float* x = nullptr;
  int64_t ldx = 0;
  const void* w = nullptr;
  int64_t ldw = 0;
  const void* bias = nullptr;  // null: none
  bool w_bf16 = false;
  bool bias_bf16 = false;
  float* out = nullptr;
  int64_t ldo = 0;
  int64_t t = 0;
  int64_t n = 0;
  int64_t k = 0;
  float* work = nullptr;  // kLinearWork floats
};
inline constexpr int64_t kLinearTileT = 48;
inline constexpr int64_t kLinearTileN = 64;
inline constexpr int64_t kLinearTileK = 512;
inline constexpr int64_t kLinearPackW = 8 * kLinearTileK;
inline constexpr int64_t kLinearDirectT = 16;  // up to here converting w on the way beats packing it
inline constexpr int64_t kLinearWork =
    kLinearPackW + kLinearTileT * kLinearTileK + kLinearTileT * kLinearTileN * 8;

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
  // out = sigmoid(gate) * w * o; returns the sum of o^2
  float (*gate)(const float* o, const float* gate, const void* w, bool w_bf16, float* out, int64_t n);
  // out = silu(a) * b
  void (*silu_mul)(const float* a, const float* b, float* out, int64_t n);
  void (*gelu)(float* x, int64_t n);
  // s[i] = exp(s[i] - max) for i < valid and 0 for valid <= i < n; returns the sum, writes the maximum.
  float (*softmax)(float* s, int64_t valid, int64_t n, float* max);
  // out = row as float
  void (*widen)(const void* row, bool bf16, float* out, int64_t n);
};

const Kernels& PortableKernels();
// The AVX2 table where it was compiled and the processor has AVX2, FMA and BMI2; otherwise null.
const Kernels* Avx2Kernels();

}  // namespace fulger::cpu
