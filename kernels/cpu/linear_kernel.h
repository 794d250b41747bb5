// Matrix product with a row-major weight [n, k], both operands read along k (see LinearBlock for the order of
// summation that every path keeps).
//
// Few rows of x: weight rows stream from memory once, straight into the dot products; decode is bound by
// bandwidth. More rows: per run of k, rows of x are packed (they stay in the second cache), and panels of
// weight rows are widened into the first cache once for all of them, while the next panel is on its way.
#pragma once

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/vec.h"

namespace fulger::cpu::FULGER_CPU_ISA {

// Rows of x and rows of w of a register tile. With four rows of w a tile's sums come out as vectors of four.
// Tall enough that one load feeds more than two multiplications, small enough for the registers: 12 of 16, or
// 24 of 32.
#ifdef FULGER_CPU_AVX512
constexpr int kTileX = 6;
constexpr int64_t kLinearDirect = 12;
#else
constexpr int kTileX = 3;
constexpr int64_t kLinearDirect = 8;
#endif
constexpr int kTileW = 4;

// out[i * ldo + j] = (first ? 0 : itself) + x[i] . w[j] over one run of k. The accumulators are
// one-dimensional and local: GCC 12 spills two-dimensional ones.
// kStreams: w comes from memory; a line some way on is asked for while this one is used.
template <int NT, int NW, bool kStreams, typename W>
FULGER_INLINE void DotTile(const float* x, int64_t ldx, const W* w, int64_t ldw, int64_t k, bool first,
                           float* out, int64_t ldo) {
  Vec acc[NT * NW];
#pragma GCC unroll 32
  for (int i = 0; i < NT * NW; ++i) acc[i] = Zero();
  // The shorter side of the tile waits in registers: with sixteen of them, 3 x 4 sums leave four.
  const auto step = [&](int64_t p) __attribute__((always_inline)) {
    if constexpr (NT < NW) {
      Vec xv[NT];
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i) xv[i] = Load(x + i * ldx + p);
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) {
        const Vec wv = Load(w + j * ldw + p);
#pragma GCC unroll 16
        for (int i = 0; i < NT; ++i) acc[i * NW + j] = Fma(xv[i], wv, acc[i * NW + j]);
      }
    } else {
      Vec wv[NW];
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) wv[j] = Load(w + j * ldw + p);
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i) {
        const Vec xv = Load(x + i * ldx + p);
#pragma GCC unroll 16
        for (int j = 0; j < NW; ++j) acc[i * NW + j] = Fma(xv, wv[j], acc[i * NW + j]);
      }
    }
  };
  const int64_t full = k - k % kLanes;
  int64_t p = 0;
  if constexpr (kStreams) {
    constexpr int64_t kAhead = 512;
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(W));
    for (; p + kLine <= full; p += kLine) {
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j)
        __builtin_prefetch(reinterpret_cast<const char*>(w + j * ldw + p) + kAhead);
#pragma GCC unroll 8
      for (int64_t q = 0; q < kLine; q += kLanes) step(p + q);
    }
  }
  for (; p < full; p += kLanes) step(p);
  if (full < k) {
    const int64_t rest = k - full;
#pragma GCC unroll 16
    for (int j = 0; j < NW; ++j) {
      const Vec wv = LoadN(w + j * ldw + full, rest);
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i)
        acc[i * NW + j] = Fma(LoadN(x + i * ldx + full, rest), wv, acc[i * NW + j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < NT; ++i) {
    float sum[NW];
    if constexpr (NW == 4) {
      ReduceAdd4(acc[i * NW], acc[i * NW + 1], acc[i * NW + 2], acc[i * NW + 3], sum);
    } else {
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) sum[j] = ReduceAdd(acc[i * NW + j]);
    }
    float* o = out + i * ldo;
#pragma GCC unroll 16
    for (int j = 0; j < NW; ++j) o[j] = first ? sum[j] : o[j] + sum[j];
  }
}

// Calls fn.operator()<rows>(first row) over t rows: tiles of kTileX, the rest cut evenly.
template <typename F>
FULGER_INLINE void ForTiles(int64_t t, F fn) {
  for (int64_t i = 0; i < t;) {
    const int64_t left = t - i;
    const int64_t rows = left >= 2 * kTileX ? kTileX : left > kTileX ? (left + 1) / 2 : left;
    switch (rows) {
      case 1:
        fn.template operator()<1>(i);
        break;
      case 2:
        fn.template operator()<2>(i);
        break;
      case 3:
        fn.template operator()<3>(i);
        break;
      case 4:
        if constexpr (kTileX >= 4) fn.template operator()<4>(i);
        break;
      case 5:
        if constexpr (kTileX >= 5) fn.template operator()<5>(i);
        break;
      default:
        if constexpr (kTileX >= 6) fn.template operator()<6>(i);
        break;
    }
    i += rows;
  }
}

FULGER_INLINE float BiasAt(const LinearBlock& b, int64_t j) {
  if (b.bias == nullptr) return 0.0F;
  if (!b.bias_bf16) return static_cast<const float*>(b.bias)[j];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(b.bias)[j]) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof(f));
  return f;
}

// out = sum * scale + bias over columns [j0, j0 + n) of `rows` rows whose sums lie at `sums`, ld apart.
inline void Finish(const LinearBlock& b, const float* sums, int64_t ld, int64_t i0, int64_t rows, int64_t j0,
                   int64_t n) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* s = sums + i * ld;
    float* o = b.out + (i0 + i) * b.ldo + j0;
    for (int64_t j = 0; j < n; ++j) {
      const float scaled = b.w_scale == nullptr ? s[j] : s[j] * b.w_scale[j0 + j];
      o[j] = b.bias == nullptr ? scaled : scaled + BiasAt(b, j0 + j);
    }
  }
}

// NW columns j, j + gap, ..., their rows of w read from memory once.
template <int NW, typename W>
inline void DirectColumns(const LinearBlock& b, int64_t j, int64_t gap) {
  float sums[kLinearDirect * NW];
  const W* w = static_cast<const W*>(b.w) + j * b.ldw;
  const int64_t ldw = gap * b.ldw;
  for (int64_t k0 = 0; k0 < b.k; k0 += kLinearRun) {
    const int64_t k = MinOf(kLinearRun, b.k - k0);
    ForTiles(b.t, [&]<int NT>(int64_t i) {
      DotTile<NT, NW, true>(b.x + i * b.ldx + k0, b.ldx, w + k0, ldw, k, k0 == 0, sums + i * NW, NW);
    });
  }
  for (int s = 0; s < NW; ++s) Finish(b, sums + s, NW, 0, b.t, j + s * gap, 1);
}

// A tile's rows of w are a quarter of the block apart: four long streams, which the processor's prefetchers
// follow much further than rows that begin anew in every page.
template <typename W>
inline void DirectPath(const LinearBlock& b) {
  const int64_t gap = b.n / kTileW;
  for (int64_t j = 0; j < gap; ++j) DirectColumns<kTileW, W>(b, j, gap);
  for (int64_t j = kTileW * gap; j < b.n; ++j) DirectColumns<1, W>(b, j, 1);
}

// `rows` rows of `k` elements as float rows `ld_to` apart, padded with zeros to whole vectors that lie `step`
// apart. Runs of a row are too short for the processor to foresee the next: it is told.
template <typename T>
inline void PackRows(const T* from, int64_t ld, int64_t rows, int64_t k, float* to, int64_t ld_to,
                     int64_t step) {
  for (int64_t j = 0; j < rows; ++j, from += ld, to += ld_to) {
    int64_t p = 0;
    float* at = to;
    for (; p + kLanes <= k; p += kLanes, at += step) {
      __builtin_prefetch(from + 2 * ld + p);
      Store(at, Load(from + p));
    }
    if (p < k) Store(at, LoadN(from + p, k - p));
  }
}

// A panel: kLinearPanel rows of w as floats. With AVX-512 two neighbours share a vector, eight lanes each:
// the sums are the same as with eight lanes alone, and the vectors are full.
#ifdef FULGER_CPU_AVX512

template <typename W>
inline void PackPanel(const W* w, int64_t ldw, int64_t k, float* panel) {
  for (int64_t j = 0; j < kLinearPanel; j += 2) {
    PackRows(w + j * ldw, 2 * ldw, 1, k, panel + j * kLinearRun, 0, kWide);
    PackRows(w + (j + 1) * ldw, 2 * ldw, 1, k, panel + j * kLinearRun + kLanes, 0, kWide);
  }
}

template <int NT>
FULGER_INLINE void PanelTile(const float* x, const float* panel, int64_t k, bool first, float* out,
                             int64_t ldo) {
  constexpr int kPairs = kLinearPanel / 2;
  Wide acc[NT * kPairs];
#pragma GCC unroll 32
  for (int i = 0; i < NT * kPairs; ++i) acc[i] = ZeroWide();
  for (int64_t p = 0; p < k; p += kLanes) {
    Wide wv[kPairs];
#pragma GCC unroll 16
    for (int j = 0; j < kPairs; ++j) wv[j] = LoadWide(panel + 2 * j * kLinearRun + 2 * p);
#pragma GCC unroll 16
    for (int i = 0; i < NT; ++i) {
      const Wide xv = LoadTwice(x + i * kLinearRun + p);
#pragma GCC unroll 16
      for (int j = 0; j < kPairs; ++j) acc[i * kPairs + j] = Fma(xv, wv[j], acc[i * kPairs + j]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < NT; i += 2) {
    const int other = i + 1 < NT ? i + 1 : i;
    const Wide sums = ReduceHalves(acc + i * kPairs, acc + other * kPairs);
    float* o = out + i * ldo;
    Store(o, first ? LowHalf(sums) : Add(Load(o), LowHalf(sums)));
    if (other == i) break;
    o += ldo;
    Store(o, first ? HighHalf(sums) : Add(Load(o), HighHalf(sums)));
  }
}

#else

template <typename W>
inline void PackPanel(const W* w, int64_t ldw, int64_t k, float* panel) {
  PackRows(w, ldw, kLinearPanel, k, panel, kLinearRun, kLanes);
}

template <int NT>
FULGER_INLINE void PanelTile(const float* x, const float* panel, int64_t k, bool first, float* out,
                             int64_t ldo) {
  const int64_t padded = (k + kLanes - 1) / kLanes * kLanes;
  for (int64_t j = 0; j < kLinearPanel; j += kTileW)
    DotTile<NT, kTileW, false>(x, kLinearRun, panel + j * kLinearRun, kLinearRun, padded, first, out + j,
                               ldo);
}

#endif

// Asks for the cache lines of a weight panel, a few at a time.
struct Prefetcher {
  const char* row = nullptr;  // null: nothing to fetch
  int64_t row_bytes = 0;
  int64_t stride = 0;
  int64_t rows = 0;
  int64_t at = 0;

  FULGER_INLINE void Next(int64_t lines) {
    for (; lines > 0 && rows > 0; --lines) {
      __builtin_prefetch(row + at, 0, 2);
      at += 64;
      if (at >= row_bytes) {
        at = 0;
        row += stride;
        --rows;
      }
    }
  }
};

// One run of k for `t` packed rows of x against all columns; columns beyond the last whole panel are read in
// place.
template <typename W>
inline void PanelRun(const LinearBlock& b, const float* x, int64_t t, int64_t k0, int64_t k, float* panel,
                     float* out) {
  const W* w = static_cast<const W*>(b.w);
  const bool first = k0 == 0;
  const int64_t tiles = (t + kTileX - 1) / kTileX;
  int64_t j = 0;
  for (; j + kLinearPanel <= b.n; j += kLinearPanel) {
    PackPanel(w + j * b.ldw + k0, b.ldw, k, panel);
    // The panel after this one: further columns of this run, or the first ones of the next.
    const bool wrap = j + kLinearPanel >= b.n;
    const int64_t next_j = wrap ? 0 : j + kLinearPanel;
    const int64_t next_k = wrap ? k0 + k : k0;
    Prefetcher next;
    if (next_k < b.k) {
      next = {.row = reinterpret_cast<const char*>(w + next_j * b.ldw + next_k),
              .row_bytes = MinOf(kLinearRun, b.k - next_k) * static_cast<int64_t>(sizeof(W)),
              .stride = b.ldw * static_cast<int64_t>(sizeof(W)),
              .rows = MinOf(kLinearPanel, b.n - next_j)};
    }
    const int64_t lines = next.rows * ((next.row_bytes + 63) / 64) / tiles + 1;
    ForTiles(t, [&]<int NT>(int64_t i) {
      next.Next(lines);
      PanelTile<NT>(x + i * kLinearRun, panel, k, first, out + i * b.ldo + j, b.ldo);
    });
  }
  for (; j < b.n; ++j) {
    ForTiles(t, [&]<int NT>(int64_t i) {
      DotTile<NT, 1, false>(x + i * kLinearRun, kLinearRun, w + j * b.ldw + k0, b.ldw, k, first,
                            out + i * b.ldo + j, b.ldo);
    });
  }
}

template <typename W>
inline void PanelPath(const LinearBlock& b) {
  float* panel = b.work;
  float* packed = panel + kLinearPanel * kLinearRun;
  for (int64_t i0 = 0; i0 < b.t; i0 += kLinearTileT) {
    const int64_t t = MinOf(kLinearTileT, b.t - i0);
    float* out = b.out + i0 * b.ldo;
    for (int64_t k0 = 0; k0 < b.k; k0 += kLinearRun) {
      const int64_t k = MinOf(kLinearRun, b.k - k0);
      PackRows(b.x + i0 * b.ldx + k0, b.ldx, t, k, packed, kLinearRun, kLanes);
      PanelRun<W>(b, packed, t, k0, k, panel, out);
    }
    if (b.w_scale != nullptr || b.bias != nullptr) Finish(b, out, b.ldo, i0, t, 0, b.n);
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
  b.t <= kLinearDirect ? DirectPath<W>(b) : PanelPath<W>(b);
}

inline void Linear(const LinearBlock& b) {
  switch (b.w_type) {
    case WeightType::kF32:
      return LinearOf<float>(b);
    case WeightType::kBF16:
      return LinearOf<uint16_t>(b);
    case WeightType::kI8:
      return LinearOf<int8_t>(b);
  }
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
