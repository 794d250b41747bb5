// Matrix product with a row-major weight [n, k], both operands read along k (see LinearBlock for the order of
// summation that both paths keep).
//
// Up to four rows of x: weight rows stream from memory once, straight into the dot products; decode is bound
// by bandwidth. More rows: pieces of k that fit L1, x packed, rows of w widened once per 48 x-rows (read in
// place where few rows use them); the lanes of every output wait in `work` between the pieces.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace fulger::cpu::FULGER_CPU_ISA {

// lanes[j * NT + i] += lanes of x[i] . w[j]. The accumulators are one-dimensional and local: GCC 12 spills
// two-dimensional ones.
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

// Sums the lanes and writes out[i0 .. i0 + NT, j0 .. j0 + NW).
template <int NT, int NW>
FULGER_INLINE void Finish(const LinearBlock& b, int64_t i0, int64_t j0, const V8* lanes) {
#pragma GCC unroll 16
  for (int i = 0; i < NT; ++i) {
    float* out = b.out + (i0 + i) * b.ldo + j0;
    float sum[NW];
    if constexpr (NW == 4) {
      ReduceAdd4(lanes[i], lanes[NT + i], lanes[2 * NT + i], lanes[3 * NT + i], sum);
    } else {
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) sum[j] = ReduceAdd(lanes[j * NT + i]);
    }
#pragma GCC unroll 16
    for (int j = 0; j < NW; ++j) out[j] = sum[j] + BiasAt(b, j0 + j);
  }
}

template <int NT, int NW, typename W>
inline void DotRows(const LinearBlock& b, int64_t j0) {
  V8 lanes[NT * NW];
#pragma GCC unroll 16
  for (int i = 0; i < NT * NW; ++i) lanes[i] = Zero();
  AccumulateDots<NT, NW>(b.x, b.ldx, static_cast<const W*>(b.w) + j0 * b.ldw, b.ldw, b.k, lanes);
  Finish<NT, NW>(b, 0, j0, lanes);
}

template <int NT, int NW, typename W>
inline void DotPath(const LinearBlock& b) {
  int64_t j = 0;
  for (; j + NW <= b.n; j += NW) DotRows<NT, NW, W>(b, j);
  for (; j < b.n; ++j) DotRows<NT, 1, W>(b, j);
}

// `rows` rows of `k` elements as float rows kLinearTileK apart.
template <typename T>
inline void PackRows(const T* from, int64_t ld, int64_t rows, int64_t k, float* to) {
  for (int64_t j = 0; j < rows; ++j, from += ld, to += kLinearTileK) {
    int64_t p = 0;
    for (; p + kLanes <= k; p += kLanes) Store(to + p, Load(from + p));
    if (p < k) Store(to + p, LoadN(from + p, k - p));
  }
}

// One piece of k for a block of outputs: rows of x packed, rows of w packed or in place.
template <typename W>
struct Piece {
  const LinearBlock& b;
  int64_t i0;  // of the first x row
  const float* x;
  const W* w;
  int64_t ldw;
  int64_t k;
  bool first;
  bool last;
};

// Outputs (i .. i + NT, j .. j + NW): continues their lanes, or finishes them. `lanes` walks through `work`
// in the order of the calls, which is the same for every piece of k: a stream that the prefetcher follows.
template <int NT, int NW, typename W>
inline void TileStep(const Piece<W>& piece, int64_t i, int64_t j, int64_t j_out, float*& lanes) {
  V8 acc[NT * NW];
#pragma GCC unroll 16
  for (int a = 0; a < NT * NW; ++a) acc[a] = piece.first ? Zero() : Load(lanes + a * kLanes);
  AccumulateDots<NT, NW>(piece.x + i * kLinearTileK, kLinearTileK, piece.w + j * piece.ldw, piece.ldw,
                         piece.k, acc);
  if (piece.last) {
    Finish<NT, NW>(piece.b, piece.i0 + i, j_out, acc);
  } else {
#pragma GCC unroll 16
    for (int a = 0; a < NT * NW; ++a) Store(lanes + a * kLanes, acc[a]);
  }
  lanes += NT * NW * kLanes;
}

template <int NT, typename W>
inline void TileRows(const Piece<W>& piece, int64_t i, int64_t rows, int64_t j_out, float*& lanes) {
  int64_t j = 0;
  for (; j + 4 <= rows; j += 4) TileStep<NT, 4>(piece, i, j, j_out + j, lanes);
  for (; j < rows; ++j) TileStep<NT, 1>(piece, i, j, j_out + j, lanes);
}

// All t packed x rows against `rows` weight rows. t is cut into threes and twos as far as possible: a lone
// row leaves the multipliers waiting.
template <typename W>
inline void TileBlock(const Piece<W>& piece, int64_t t, int64_t rows, int64_t j_out, float*& lanes) {
  int64_t i = 0;
  for (; t - i > 4 || t - i == 3; i += 3) TileRows<3>(piece, i, rows, j_out, lanes);
  for (; t - i >= 2; i += 2) TileRows<2>(piece, i, rows, j_out, lanes);
  if (i < t) TileRows<1>(piece, i, rows, j_out, lanes);
}

template <typename W>
inline void TilePath(const LinearBlock& b) {
  float* packed_w = b.work;
  float* packed_x = packed_w + kLinearPackW;
  float* lanes = packed_x + kLinearTileT * kLinearTileK;
  for (int64_t i0 = 0; i0 < b.t; i0 += kLinearTileT) {
    const int64_t t = MinOf(kLinearTileT, b.t - i0);
    for (int64_t j0 = 0; j0 < b.n; j0 += kLinearTileN) {
      const int64_t n = MinOf(kLinearTileN, b.n - j0);
      for (int64_t k0 = 0; k0 < b.k; k0 += kLinearTileK) {
        const int64_t k = MinOf(kLinearTileK, b.k - k0);
        const bool first = k0 == 0;
        const bool last = k0 + k == b.k;
        PackRows(b.x + i0 * b.ldx + k0, b.ldx, t, k, packed_x);
        float* cursor = lanes;
        for (int64_t j = 0; j < n; j += 8) {
          const int64_t rows = MinOf(8, n - j);
          const W* w = static_cast<const W*>(b.w) + (j0 + j) * b.ldw + k0;
          if (t <= kLinearDirectT) {
            TileBlock<W>({b, i0, packed_x, w, b.ldw, k, first, last}, t, rows, j0 + j, cursor);
          } else {
            PackRows(w, b.ldw, rows, k, packed_w);
            TileBlock<float>({b, i0, packed_x, packed_w, kLinearTileK, k, first, last}, t, rows, j0 + j,
                             cursor);
          }
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
