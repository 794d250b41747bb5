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

// Elements of k go in blocks of kParts vectors; of two parts one holds the even and one the odd elements. x
// is laid out likewise before it meets such a weight.
template <typename W>
constexpr int kParts = sizeof(W) == 2 ? 2 : 1;
template <typename W>
constexpr int64_t kBlock = kParts<W>* kLanes;
template <typename W>
FULGER_INLINE int64_t Padded(int64_t k) {
  return (k + kBlock<W> - 1) / kBlock<W> * kBlock<W>;
}
template <int kCount, int kPart, typename T>
FULGER_INLINE Vec LoadOfParts(const T* p) {
  if constexpr (kCount == 2) {
    return LoadPart<kPart>(p);
  } else {
    return Load(p);
  }
}

// out[i * ldo + j] = (first ? 0 : itself) + x[i] . w[j] over one run of k. x is laid out in the parts of W
// and ends in whole blocks. The accumulators are one-dimensional and local: GCC 12 spills two-dimensional
// ones. kStreams: w comes from memory; lines some way on are asked for while this one is used.
template <int NT, int NW, bool kStreams, typename W>
FULGER_INLINE void DotTile(const float* x, int64_t ldx, const W* w, int64_t ldw, int64_t k, bool first,
                           float* out, int64_t ldo) {
  constexpr int kCount = kParts<W>;
  Vec acc[NT * NW];
#pragma GCC unroll 32
  for (int i = 0; i < NT * NW; ++i) acc[i] = Zero();
  // The shorter side of the tile waits in registers: with sixteen of them, 3 x 4 sums leave four.
  const auto part = [&]<int kPart>(int64_t p, const W* from, int64_t ld) __attribute__((always_inline)) {
    const float* xp = x + p + kPart * kLanes;
    if constexpr (NT < NW) {
      Vec xv[NT];
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i) xv[i] = Load(xp + i * ldx);
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) {
        const Vec wv = LoadOfParts<kCount, kPart>(from + j * ld);
#pragma GCC unroll 16
        for (int i = 0; i < NT; ++i) acc[i * NW + j] = Fma(xv[i], wv, acc[i * NW + j]);
      }
    } else {
      Vec wv[NW];
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) wv[j] = LoadOfParts<kCount, kPart>(from + j * ld);
#pragma GCC unroll 16
      for (int i = 0; i < NT; ++i) {
        const Vec xv = Load(xp + i * ldx);
#pragma GCC unroll 16
        for (int j = 0; j < NW; ++j) acc[i * NW + j] = Fma(xv, wv[j], acc[i * NW + j]);
      }
    }
  };
  const auto block = [&](int64_t p, const W* from, int64_t ld) __attribute__((always_inline)) {
    part.template operator()<0>(p, from, ld);
    if constexpr (kCount == 2) part.template operator()<1>(p, from, ld);
  };
  constexpr int64_t kStep = kBlock<W>;
  const int64_t full = k - k % kStep;
  int64_t p = 0;
  if constexpr (kStreams) {
    // The first cache cannot wait for enough lines at a time; the second is told earlier.
    constexpr int64_t kAhead = 512;
    constexpr int64_t kFarAhead = 1536;
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(W));
    for (; p + kLine <= full; p += kLine) {
#pragma GCC unroll 16
      for (int j = 0; j < NW; ++j) {
        const char* line = reinterpret_cast<const char*>(w + j * ldw + p);
        __builtin_prefetch(line + kAhead);
        __builtin_prefetch(line + kFarAhead, 0, 2);
      }
#pragma GCC unroll 8
      for (int64_t q = 0; q < kLine; q += kStep) block(p + q, w + p + q, ldw);
    }
  }
  for (; p < full; p += kStep) block(p, w + p, ldw);
  if (full < k) {
    W rest[NW * kStep] = {};
    for (int j = 0; j < NW; ++j) {
      for (int64_t q = full; q < k; ++q) rest[j * kStep + q - full] = w[j * ldw + q];
    }
    block(full, rest, kStep);
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

// Columns j, j + gap, ... (NW of them), their rows of w read from memory once. x: laid out for W, ldx apart.
template <int NW, typename W>
inline void DirectColumns(const LinearBlock& b, const float* x, int64_t ldx, int64_t j, int64_t gap) {
  float sums[kLinearDirect * NW];
  const W* w = static_cast<const W*>(b.w) + j * b.ldw;
  const int64_t ldw = gap * b.ldw;
  for (int64_t k0 = 0; k0 < b.k; k0 += kLinearRun) {
    const int64_t k = MinOf(kLinearRun, b.k - k0);
    ForTiles(b.t, [&]<int NT>(int64_t i) {
      DotTile<NT, NW, true>(x + i * ldx + k0, ldx, w + k0, ldw, k, k0 == 0, sums + i * NW, NW);
    });
  }
  for (int s = 0; s < NW; ++s) Finish(b, sums + s, NW, 0, b.t, j + s * gap, 1);
}

// `rows` rows of `k` elements as float rows `ld_to` apart, in kCount parts, padded with zeros to whole
// blocks; their vectors lie `step` apart. Runs of a row are too short for the processor to foresee the next:
// it is told.
template <int kCount, typename T>
inline void PackRows(const T* from, int64_t ld, int64_t rows, int64_t k, float* to, int64_t ld_to,
                     int64_t step) {
  constexpr int64_t kStep = kCount * kLanes;
  for (int64_t j = 0; j < rows; ++j, from += ld, to += ld_to) {
    float* at = to;
    const auto block = [&](const T* p) __attribute__((always_inline)) {
      Store(at, LoadOfParts<kCount, 0>(p));
      if constexpr (kCount == 2) Store(at + step, LoadOfParts<kCount, 1>(p));
      at += kCount * step;
    };
    int64_t p = 0;
    for (; p + kStep <= k; p += kStep) {
      __builtin_prefetch(from + 2 * ld + p);
      block(from + p);
    }
    if (p == k) continue;
    T rest[kStep] = {};
    for (int64_t q = p; q < k; ++q) rest[q - p] = from[q];
    block(rest);
  }
}

// A tile's rows of w are a quarter of the block apart: four long streams, which the processor's prefetchers
// follow much further than rows that begin anew in every page.
template <typename W>
inline void DirectPath(const LinearBlock& b) {
  const float* x = b.x;
  int64_t ldx = b.ldx;
  if (kParts<W> == 2 || Padded<W>(b.k) != b.k) {
    ldx = Padded<W>(b.k);
    PackRows<kParts<W>>(b.x, b.ldx, b.t, b.k, b.work, ldx, kLanes);
    x = b.work;
  }
  const int64_t gap = b.n / kTileW;
  for (int64_t j = 0; j < gap; ++j) DirectColumns<kTileW, W>(b, x, ldx, j, gap);
  for (int64_t j = kTileW * gap; j < b.n; ++j) DirectColumns<1, W>(b, x, ldx, j, 1);
}

// A panel: kLinearPanel rows of w as floats. With AVX-512 two neighbours share a vector, eight lanes each:
// the sums are the same as with eight lanes alone, and the vectors are full.
#ifdef FULGER_CPU_AVX512

template <typename W>
inline void PackPanel(const W* w, int64_t ldw, int64_t k, float* panel) {
  for (int64_t j = 0; j < kLinearPanel; j += 2) {
    PackRows<kParts<W>>(w + j * ldw, 2 * ldw, 1, k, panel + j * kLinearRun, 0, kWide);
    PackRows<kParts<W>>(w + (j + 1) * ldw, 2 * ldw, 1, k, panel + j * kLinearRun + kLanes, 0, kWide);
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
  PackRows<kParts<W>>(w, ldw, kLinearPanel, k, panel, kLinearRun, kLanes);
}

template <int NT>
FULGER_INLINE void PanelTile(const float* x, const float* panel, int64_t k, bool first, float* out,
                             int64_t ldo) {
  for (int64_t j = 0; j < kLinearPanel; j += kTileW)
    DotTile<NT, kTileW, false>(x, kLinearRun, panel + j * kLinearRun, kLinearRun, k, first, out + j, ldo);
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
      PanelTile<NT>(x + i * kLinearRun, panel, Padded<W>(k), first, out + i * b.ldo + j, b.ldo);
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
      PackRows<kParts<W>>(b.x + i0 * b.ldx + k0, b.ldx, t, k, packed, kLinearRun, kLanes);
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
  const bool direct = b.t <= kLinearDirect && b.t * Padded<W>(b.k) <= kLinearWork;
  direct ? DirectPath<W>(b) : PanelPath<W>(b);
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
