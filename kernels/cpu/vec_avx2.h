// Eight lanes on AVX2 + FMA; with AVX-512VL the compiler has 32 registers for them. Included by vec.h only.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace fulger::cpu::FULGER_CPU_ISA {

constexpr int64_t kLanes = 8;

using Vec = __m256;

alignas(64) constexpr int32_t kMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
FULGER_INLINE __m256i FirstLanes(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMask + kLanes - n));
}

FULGER_INLINE Vec Zero() { return _mm256_setzero_ps(); }
FULGER_INLINE Vec Set1(float x) { return _mm256_set1_ps(x); }
FULGER_INLINE Vec Load(const float* p) { return _mm256_loadu_ps(p); }
FULGER_INLINE Vec Load(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
FULGER_INLINE Vec Load(const int8_t* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
// Of sixteen bfloat16 the elements 0, 2, .. 14 (kPart 0) or 1, 3, .. 15 (1): one operation, where eight
// neighbours take two.
template <int kPart>
FULGER_INLINE Vec LoadPart(const uint16_t* p) {
  const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm256_castsi256_ps(kPart == 0 ? _mm256_slli_epi32(pairs, 16)
                                        : _mm256_and_si256(pairs, _mm256_set1_epi32(-65536)));
}
template <int kPart>
FULGER_INLINE Vec LoadPart(const float* p) {
  const Vec mixed =
      _mm256_shuffle_ps(_mm256_loadu_ps(p), _mm256_loadu_ps(p + kLanes), kPart == 0 ? 0x88 : 0xdd);
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(mixed), 0xd8));
}
FULGER_INLINE void Store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
FULGER_INLINE Vec LoadN(const float* p, int64_t n) { return _mm256_maskload_ps(p, FirstLanes(n)); }
FULGER_INLINE void StoreN(float* p, Vec v, int64_t n) { _mm256_maskstore_ps(p, FirstLanes(n), v); }
FULGER_INLINE Vec Add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
FULGER_INLINE Vec Sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
FULGER_INLINE Vec Mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
FULGER_INLINE Vec Div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
FULGER_INLINE Vec Fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }
// Of a NaN and a number, the second operand.
FULGER_INLINE Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
FULGER_INLINE Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
// a < b ? x : y
FULGER_INLINE Vec SelectLess(Vec a, Vec b, Vec x, Vec y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
// 2^n for integral n in [-126, 127].
FULGER_INLINE Vec Pow2(Vec n) {
  const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
// ((0+4)+(2+6)) + ((1+5)+(3+7)): the order is part of the contract that a row's bits do not depend on T.
FULGER_INLINE float ReduceAdd(Vec v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
  return _mm_cvtss_f32(s);
}

// ReduceAdd of four vectors, each in the same order, side by side.
FULGER_INLINE void ReduceAdd4(Vec a, Vec b, Vec c, Vec d, float* out) {
  const __m128 sa = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 sb = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 sc = _mm_add_ps(_mm256_castps256_ps128(c), _mm256_extractf128_ps(c, 1));
  const __m128 sd = _mm_add_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1));
  // 0+2 of a and b, then 1+3 of a and b
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(sa, sb), _mm_unpackhi_ps(sa, sb));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(sc, sd), _mm_unpackhi_ps(sc, sd));
  _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
