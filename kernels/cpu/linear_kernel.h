// Matrix product with a row-major weight [n, k], both operands read along k (see LinearBlock for the order of
// summation that both paths keep).
//   t <= 4: weight rows stream from memory once, straight into the dot products: decode is bound by
//   bandwidth. t > 4:  a block of weight rows is widened to float32 once per 48 x-rows and stays in L1; the
//   lanes of every
//           output live in `work` between pieces of k.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace fulger::cpu::FULGER_CPU_ISA {

// acc[j * NT + i] += lanes of x[i] . w[j].  Separate 1-D accumulators that never have their address taken in
// the loop: GCC 12 spills two-dimensional ones.
template <int NT, int NW, typename W>
FULGER_INLINE void AccumulateDots(const float* x, int64_t ldx, const W* w, int64_t ldw, int64_t k,
                                  V8* lanes) {
  V8 acc[NT * NW];
#pragma GCC unroll 16
  for (int i = 0; i < NT * NW; ++i) acc[i] = lanes[i];
  const int64_t full = k - k % kLanes;
  for (int64_t p = 0; p < full; p += kLanes) {
    V8 xv[NT];
#pragma GCC unroll 16
    for (int i = 0; i < NT; ++i) xv[i] = Load(x + i * ldx + p);
#pragma GCC unroll 16
    for (int j = 0; j < NW; ++j) {
      const V8 wv = Load(w + j * ldw + p);
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i) acc[j * NT + i] = Fma(xv[i], wv, acc[j * NT + i]);
    }
  }
  if (full < k) {
    const int64_t rest = k - full;
#pragma GCC unroll 16
    for (int j = 0; j < NW; ++j) {
      const V8 wv = LoadN(w + j * ldw + full, rest);
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i)
        acc[j * NT + i] = Fma(LoadN(x + i * ldx + full, rest), wv, acc[j * NT + i]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < NT * NW; ++i) lanes[i] = acc[i];
}

FULGER_INLINE float BiasAt(const LinearBlock& b, int64_t j) {
  if (b.bias == nullptr) return 0.0F;
  if (!b.bias_bf16) return static_cast<const float*>(b.bias)[j];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(b.bias)[j]) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}

template <int NT, int NW, typename W>
inline void DotRows(const LinearBlock& b, int64_t j0) {
  V8 lanes[NT * NW];
  for (V8& l : lanes) l = Zero();
  AccumulateDots<NT, NW>(b.x, b.ldx, static_cast<const W*>(b.w) + j0 * b.ldw, b.ldw, b.k, lanes);
  for (int j = 0; j < NW; ++j) {
    const float bias = BiasAt(b, j0 + j);
    for (int i = 0; i < NT; ++i) b.out[i * b.ldo + j0 + j] = ReduceAdd(lanes[j * NT + i]) + bias;
  }
}

template <int NT, int NW, typename W>
inline void DotPath(const LinearBlock& b) {
  int64_t j = 0;
  for (; j + NW <= b.n; j += NW) DotRows<NT, NW, W>(b, j);
  for (; j < b.n; ++j) DotRows<NT, 1, W>(b, j);
}

// Rows [j0, j0 + rows) of w, columns [k0, k0 + k), as float rows kLinearTileK apart.
template <typename W>
inline void PackRows(const LinearBlock& b, int64_t j0, int64_t rows, int64_t k0, int64_t k, float* packed) {
  for (int64_t j = 0; j < rows; ++j) {
    const W* row = static_cast<const W*>(b.w) + (j0 + j) * b.ldw + k0;
    float* to = packed + j * kLinearTileK;
    int64_t p = 0;
    for (; p + kLanes <= k; p += kLanes) Store(to + p, Load(row + p));
    if (p < k) Store(to + p, LoadN(row + p, k - p));
  }
}

// One tile of at most 3 x-rows against `rows` packed weight rows. Lanes of output (i, j) are at
// lanes + (j * kLinearTileT + i) * 8.
template <int NT, int NW>
FULGER_INLINE void TileStep(const float* x, int64_t ldx, const float* packed, int64_t k, bool first,
                            float* lanes) {
  V8 acc[NT * NW];
#pragma GCC unroll 16
  for (int j = 0; j < NW; ++j) {
#pragma GCC unroll 16
    for (int i = 0; i < NT; ++i) {
      acc[j * NT + i] = first ? Zero() : Load(lanes + (j * kLinearTileT + i) * kLanes);
    }
  }
  AccumulateDots<NT, NW>(x, ldx, packed, kLinearTileK, k, acc);
#pragma GCC unroll 16
  for (int j = 0; j < NW; ++j) {
#pragma GCC unroll 16
    for (int i = 0; i < NT; ++i) Store(lanes + (j * kLinearTileT + i) * kLanes, acc[j * NT + i]);
  }
}

template <int NT>
inline void TileRows(const float* x, int64_t ldx, const float* packed, int64_t rows, int64_t k, bool first,
                     float* lanes) {
  int64_t j = 0;
  for (; j + 4 <= rows; j += 4) {
    TileStep<NT, 4>(x, ldx, packed + j * kLinearTileK, k, first, lanes + j * kLinearTileT * kLanes);
  }
  for (; j < rows; ++j) {
    TileStep<NT, 1>(x, ldx, packed + j * kLinearTileK, k, first, lanes + j * kLinearTileT * kLanes);
  }
}

template <typename W>
inline void TilePiece(const LinearBlock& b, int64_t i0, int64_t t, int64_t j0, int64_t n, int64_t k0,
                      int64_t k, float* packed, float* lanes) {
  for (int64_t j = 0; j < n; j += 8) {
    const int64_t rows = MinOf(8, n - j);
    PackRows<W>(b, j0 + j, rows, k0, k, packed);
    float* row_lanes = lanes + j * kLinearTileT * kLanes;
    int64_t i = 0;
    for (; i + 3 <= t; i += 3) {
      TileRows<3>(b.x + (i0 + i) * b.ldx + k0, b.ldx, packed, rows, k, k0 == 0, row_lanes + i * kLanes);
    }
    for (; i < t; ++i) {
      TileRows<1>(b.x + (i0 + i) * b.ldx + k0, b.ldx, packed, rows, k, k0 == 0, row_lanes + i * kLanes);
    }
  }
}

template <typename W>
inline void TilePath(const LinearBlock& b) {
  float* packed = b.work;
  float* lanes = b.work + 8 * kLinearTileK;
  for (int64_t i0 = 0; i0 < b.t; i0 += kLinearTileT) {
    const int64_t t = MinOf(kLinearTileT, b.t - i0);
    for (int64_t j0 = 0; j0 < b.n; j0 += kLinearTileN) {
      const int64_t n = MinOf(kLinearTileN, b.n - j0);
      for (int64_t k0 = 0; k0 < b.k; k0 += kLinearTileK) {
        TilePiece<W>(b, i0, t, j0, n, k0, MinOf(kLinearTileK, b.k - k0), packed, lanes);
      }
      for (int64_t j = 0; j < n; ++j) {
        const float bias = BiasAt(b, j0 + j);
        for (int64_t i = 0; i < t; ++i) {
          b.out[(i0 + i) * b.ldo + j0 + j] = ReduceAdd(Load(lanes + (j * kLinearTileT + i) * kLanes)) + bias;
        }
      }
    }
  }
}

template <typename W>
inline void LinearOf(const LinearBlock& b) {
  if (b.k == 0) {
    for (int64_t i = 0; i < b.t; ++i) {
      for (int64_t j = 0; j < b.n; ++j) b.out[i * b.ldo + j] = BiasAt(b, j);
    }
    return;
  }
  switch (b.t) {
    case 1:
      return DotPath<1, 4, W>(b);
    case 2:
      return DotPath<2, 4, W>(b);
    case 3:
      return DotPath<3, 4, W>(b);
    case 4:
      return DotPath<4, 2, W>(b);
    default:
      return TilePath<W>(b);
  }
}

inline void Linear(const LinearBlock& b) { b.w_bf16 ? LinearOf<uint16_t>(b) : LinearOf<float>(b); }

}  // namespace fulger::cpu::FULGER_CPU_ISA
