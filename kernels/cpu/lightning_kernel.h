// Lightning attention of one head. One token: the state is read and written once, in strips of value columns
// that stay in registers. Several: the blocked form, all of it small matrix products.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/product_kernel.h"
#include "kernels/cpu/vec_math.h"

namespace fulger::cpu::FULGER_CPU_ISA {

FULGER_INLINE void SiluRow(const float* x, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(out + i, Silu(Load(x + i)));
  if (i < n) StoreN(out + i, Silu(LoadN(x + i, n - i)), n - i);
}

// S = decay * S + k v^T and o = q^T S over columns [j0, j0 + NV vectors) of the value dimension; Partial: one
// vector of `cols` columns.
template <typename V, int NV, bool Partial>
FULGER_INLINE void StepStrip(const float* q, const float* k, const float* v, float decay, float* state,
                             int64_t d, int64_t j0, int64_t cols, float* out) {
  constexpr int64_t kStep = sizeof(V) / sizeof(float);
  V o[NV];
  V vv[NV];
#pragma GCC unroll 8
  for (int c = 0; c < NV; ++c) {
    o[c] = SetAll<V>(0.0F);
    vv[c] = Columns<V, Partial>(v + j0 + c * kStep, cols);
  }
  const V lambda = SetAll<V>(decay);
  for (int64_t i = 0; i < d; ++i) {
    float* row = state + i * d + j0;
    const V kv = SetAll<V>(k[i]);
    const V qv = SetAll<V>(q[i]);
#pragma GCC unroll 8
    for (int c = 0; c < NV; ++c) {
      const V s = Fma(kv, vv[c], Mul(lambda, Columns<V, Partial>(row + c * kStep, cols)));
      if constexpr (Partial) {
        StoreN(row, s, cols);
      } else {
        Store(row + c * kStep, s);
      }
      o[c] = Fma(qv, s, o[c]);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < NV; ++c) {
    if constexpr (Partial) {
      StoreN(out + j0, o[c], cols);
    } else {
      Store(out + j0 + c * kStep, o[c]);
    }
  }
}

inline void LightningStep(const LightningBlock& b) {
  float* q = b.work;
  SiluRow(b.qkv, q, 3 * b.d);
  const float* k = q + b.d;
  const float* v = k + b.d;
  const float decay = b.decay[1];
  int64_t j = 0;
  for (; j + 4 * kWide <= b.d; j += 4 * kWide)
    StepStrip<Wide, 4, false>(q, k, v, decay, b.state, b.d, j, kWide, b.out);
  for (; j + kLanes <= b.d; j += kLanes)
    StepStrip<Vec, 1, false>(q, k, v, decay, b.state, b.d, j, kLanes, b.out);
  if (j < b.d) StepStrip<Vec, 1, true>(q, k, v, decay, b.state, b.d, j, b.d - j, b.out);
}

FULGER_INLINE void ScaleRow(float* x, float scale, int64_t n) {
  const Vec s = Set1(scale);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) Store(x + i, Mul(s, Load(x + i)));
  for (; i < n; ++i) x[i] *= scale;
}

// scores[r, j] *= decay[p - j] for j <= p = r0 + r, and 0 above the diagonal. `width` columns.
inline void DecayScores(float* scores, int64_t r0, int64_t rows, int64_t width, int64_t ld,
                        const float* decay) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = scores + r * ld;
    const int64_t p = r0 + r;
    for (int64_t j = 0; j <= p; ++j) row[j] *= decay[p - j];
    for (int64_t j = p + 1; j < width; ++j) row[j] = 0.0F;
  }
}

inline void LightningBlocked(const LightningBlock& b) {
  const int64_t m = b.m;
  const int64_t d = b.d;
  float* q = b.work;
  float* k = q + m * d;
  float* v = k + m * d;
  float* kt = v + m * d;
  float* scores = kt + m * d;
  for (int64_t p = 0; p < m; ++p) {
    const float* row = b.qkv + p * b.ld_qkv;
    SiluRow(row, q + p * d, d);
    SiluRow(row + d, k + p * d, d);
    SiluRow(row + 2 * d, v + p * d, d);
  }
  for (int64_t p = 0; p < m; ++p) {
    for (int64_t i = 0; i < d; ++i) kt[i * m + p] = k[p * d + i];
  }
  for (int64_t r0 = 0; r0 < m; r0 += kLightningRows) {
    const int64_t rows = MinOf(kLightningRows, m - r0);
    const int64_t width = r0 + rows;  // columns that any of these rows may see
    Product({.a = q + r0 * d,
             .a_row = d,
             .b = kt,
             .ldb = m,
             .c = scores,
             .ldc = width,
             .m = rows,
             .n = width,
             .k = d});
    DecayScores(scores, r0, rows, width, width, b.decay);
    float* out = b.out + r0 * b.ldo;
    Product({.a = scores,
             .a_row = width,
             .b = v,
             .ldb = d,
             .c = out,
             .ldc = b.ldo,
             .m = rows,
             .n = d,
             .k = width});
    for (int64_t r = 0; r < rows; ++r) ScaleRow(q + (r0 + r) * d, b.decay[r0 + r + 1], d);
    Product({.a = q + r0 * d,
             .a_row = d,
             .b = b.state,
             .ldb = d,
             .c = out,
             .ldc = b.ldo,
             .c_scale = 1.0F,
             .m = rows,
             .n = d,
             .k = d});
  }
  for (int64_t p = 0; p < m; ++p) ScaleRow(k + p * d, b.decay[m - 1 - p], d);
  // A decay that underflowed to zero overwrites the state: the same number, unless the old state was not
  // finite.
  Product({.a = k,
           .a_row = 1,
           .a_col = d,
           .b = v,
           .ldb = d,
           .c = b.state,
           .ldc = d,
           .c_scale = b.decay[m],
           .m = d,
           .n = d,
           .k = m});
}

inline void Lightning(const LightningBlock& b) { b.m == 1 ? LightningStep(b) : LightningBlocked(b); }

}  // namespace fulger::cpu::FULGER_CPU_ISA
