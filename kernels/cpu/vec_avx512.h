// Sixteen lanes on AVX-512 (F, BW, DQ, VL), beside the eight of vec_avx2.h. Included by vec.h only.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/vec_avx2.h"

namespace fulger::cpu::FULGER_CPU_ISA {

constexpr int64_t kWide = 16;

using Wide = __m512;

FULGER_INLINE Wide ZeroWide() { return _mm512_setzero_ps(); }
FULGER_INLINE Wide SetWide(float x) { return _mm512_set1_ps(x); }
FULGER_INLINE Wide LoadWide(const float* p) { return _mm512_loadu_ps(p); }
FULGER_INLINE Wide LoadWide(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
FULGER_INLINE void Store(float* p, Wide v) { _mm512_storeu_ps(p, v); }
FULGER_INLINE Wide Mul(Wide a, Wide b) { return _mm512_mul_ps(a, b); }
FULGER_INLINE Wide Fma(Wide a, Wide b, Wide c) { return _mm512_fmadd_ps(a, b, c); }

// p[0 .. 7] twice.
FULGER_INLINE Wide LoadTwice(const float* p) { return _mm512_broadcast_f32x8(_mm256_loadu_ps(p)); }

// A vector holds eight lanes of each of two sums. From four vectors of x row a and four of row b: the eight
// sums of a, then those of b, each added up in the order of ReduceAdd.
FULGER_INLINE Wide ReduceHalves(const Wide* a, const Wide* b) {
  Wide v[2];
#pragma GCC unroll 2
  for (int r = 0; r < 2; ++r) {
    const Wide* s = r == 0 ? a : b;
    // Lanes 0-3 and 4-7 of sums 0 to 3, and of sums 4 to 7.
    const Wide low =
        _mm512_add_ps(_mm512_shuffle_f32x4(s[0], s[1], 0x88), _mm512_shuffle_f32x4(s[0], s[1], 0xdd));
    const Wide high =
        _mm512_add_ps(_mm512_shuffle_f32x4(s[2], s[3], 0x88), _mm512_shuffle_f32x4(s[2], s[3], 0xdd));
    // Per four lanes: 0+2 of sum n and of sum n + 4, then 1+3 of both.
    v[r] = _mm512_add_ps(_mm512_unpacklo_ps(low, high), _mm512_unpackhi_ps(low, high));
  }
  const __m512d va = _mm512_castps_pd(v[0]);
  const __m512d vb = _mm512_castps_pd(v[1]);
  const Wide sums = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(va, vb)),
                                  _mm512_castpd_ps(_mm512_unpackhi_pd(va, vb)));
  // a0 a4 b0 b4 a1 a5 b1 b5 ... in ascending order
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_ps(order, sums);
}
FULGER_INLINE Vec LowHalf(Wide v) { return _mm512_castps512_ps256(v); }
FULGER_INLINE Vec HighHalf(Wide v) { return _mm512_extractf32x8_ps(v, 1); }

}  // namespace fulger::cpu::FULGER_CPU_ISA
