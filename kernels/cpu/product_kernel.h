// c = c_scale * c + a b with b row-major [k, n]: elements of a are broadcast against vectors of b. Each
// output sums over k in order whatever the tile, so a row's bits do not depend on m.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace fulger::cpu::FULGER_CPU_ISA {

template <typename V>
FULGER_INLINE V SetAll(float x) {
  if constexpr (sizeof(V) == sizeof(Vec)) {
    return Set1(x);
  } else {
    return SetWide(x);
  }
}
template <typename V, bool Partial, typename T>
FULGER_INLINE V Columns(const T* p, int64_t cols) {
  if constexpr (Partial) {
    return LoadN(p, cols);
  } else if constexpr (sizeof(V) == sizeof(Vec)) {
    return Load(p);
  } else {
    return LoadWide(p);
  }
}

// MR rows, NV vectors V of columns; Partial: one Vec of `cols` < 8 columns.
template <typename V, int MR, int NV, bool Partial, typename B>
FULGER_INLINE void ProductTile(const ProductBlock& g, int64_t i0, int64_t j0, int64_t cols) {
  constexpr int64_t kStep = sizeof(V) / sizeof(float);
  V acc[MR * NV];
  const float* a = g.a + i0 * g.a_row;
  const B* b = static_cast<const B*>(g.b) + j0;
  float* c = g.c + i0 * g.ldc + j0;
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) {
      const float* from = c + i * g.ldc + v * kStep;
      acc[i * NV + v] =
          g.c_scale == 0.0F ? SetAll<V>(0.0F) : Mul(SetAll<V>(g.c_scale), Columns<V, Partial>(from, cols));
    }
  }
  for (int64_t p = 0; p < g.k; ++p) {
    V bv[NV];
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) {
      bv[v] = Columns<V, Partial>(b + p * g.ldb + v * kStep, cols);
    }
#pragma GCC unroll 16
    for (int i = 0; i < MR; ++i) {
      const V av = SetAll<V>(a[i * g.a_row + p * g.a_col]);
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) acc[i * NV + v] = Fma(av, bv[v], acc[i * NV + v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) {
      float* to = c + i * g.ldc + v * kStep;
      if constexpr (Partial) {
        StoreN(to, acc[i * NV + v], cols);
      } else {
        Store(to, acc[i * NV + v]);
      }
    }
  }
}

template <int MR, typename B>
inline void ProductRows(const ProductBlock& g, int64_t i0) {
  int64_t j = 0;
  // Few rows, or twice the registers: more columns keep the multipliers busy.
  if constexpr (MR <= 3 || kWide > kLanes) {
    for (; j + 4 * kWide <= g.n; j += 4 * kWide) ProductTile<Wide, MR, 4, false, B>(g, i0, j, kWide);
  }
  for (; j + 2 * kWide <= g.n; j += 2 * kWide) ProductTile<Wide, MR, 2, false, B>(g, i0, j, kWide);
  for (; j + kLanes <= g.n; j += kLanes) ProductTile<Vec, MR, 1, false, B>(g, i0, j, kLanes);
  if (j < g.n) ProductTile<Vec, MR, 1, true, B>(g, i0, j, g.n - j);
}

// Six rows at a time; a rest is cut so that no tile is left with one or two rows where it can be helped.
template <typename B>
inline void ProductOf(const ProductBlock& g) {
  int64_t i = 0;
  for (; g.m - i >= 9 || g.m - i == 6; i += 6) ProductRows<6, B>(g, i);
  for (; g.m - i >= 4; i += 4) ProductRows<4, B>(g, i);
  if (g.m - i == 3) ProductRows<3, B>(g, i);
  if (g.m - i == 2) ProductRows<2, B>(g, i);
  if (g.m - i == 1) ProductRows<1, B>(g, i);
}

inline void Product(const ProductBlock& g) { g.b_bf16 ? ProductOf<uint16_t>(g) : ProductOf<float>(g); }

}  // namespace fulger::cpu::FULGER_CPU_ISA
