// Eight float32 lanes. The kernels are written once against these functions and compiled twice: portable (GCC
// vector extensions, any processor) and AVX2 + FMA (kernels_avx2.cc defines FULGER_CPU_AVX2).
//
// Everything here and in the *_kernel.h files lives in a namespace per instruction set, and these files
// include nothing that has inline functions of its own: a linker may keep one copy of an inline function, and
// it must not be the AVX2 one where the portable is called.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef FULGER_CPU_AVX2
#include <immintrin.h>
#define FULGER_CPU_ISA avx2
#else
#define FULGER_CPU_ISA portable
#endif
#define FULGER_INLINE inline __attribute__((always_inline))

namespace fulger::cpu::FULGER_CPU_ISA {

constexpr int64_t kLanes = 8;

#ifdef FULGER_CPU_AVX2

using V8 = __m256;

alignas(64) constexpr int32_t kMask[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
FULGER_INLINE __m256i FirstLanes(int64_t n) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kMask + kLanes - n));
}

FULGER_INLINE V8 Zero() { return _mm256_setzero_ps(); }
FULGER_INLINE V8 Set1(float x) { return _mm256_set1_ps(x); }
FULGER_INLINE V8 Load(const float* p) { return _mm256_loadu_ps(p); }
FULGER_INLINE V8 Load(const uint16_t* p) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
FULGER_INLINE void Store(float* p, V8 v) { _mm256_storeu_ps(p, v); }
FULGER_INLINE V8 LoadN(const float* p, int64_t n) { return _mm256_maskload_ps(p, FirstLanes(n)); }
FULGER_INLINE void StoreN(float* p, V8 v, int64_t n) { _mm256_maskstore_ps(p, FirstLanes(n), v); }
FULGER_INLINE V8 Add(V8 a, V8 b) { return _mm256_add_ps(a, b); }
FULGER_INLINE V8 Sub(V8 a, V8 b) { return _mm256_sub_ps(a, b); }
FULGER_INLINE V8 Mul(V8 a, V8 b) { return _mm256_mul_ps(a, b); }
FULGER_INLINE V8 Div(V8 a, V8 b) { return _mm256_div_ps(a, b); }
FULGER_INLINE V8 Fma(V8 a, V8 b, V8 c) { return _mm256_fmadd_ps(a, b, c); }
// Of a NaN and a number, the second operand.
FULGER_INLINE V8 Max(V8 a, V8 b) { return _mm256_max_ps(a, b); }
FULGER_INLINE V8 Min(V8 a, V8 b) { return _mm256_min_ps(a, b); }
// a < b ? x : y
FULGER_INLINE V8 SelectLess(V8 a, V8 b, V8 x, V8 y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
// 2^n for integral n in [-126, 127].
FULGER_INLINE V8 Pow2(V8 n) {
  const __m256i e = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_castsi256_ps(_mm256_slli_epi32(e, 23));
}
// ((0+4)+(2+6)) + ((1+5)+(3+7)): the order is part of the contract that a row's bits do not depend on T.
FULGER_INLINE float ReduceAdd(V8 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  s = _mm_add_ss(s, _mm_shuffle_ps(s, s, 1));
  return _mm_cvtss_f32(s);
}

// ReduceAdd of four vectors, each in the same order, side by side.
FULGER_INLINE void ReduceAdd4(V8 a, V8 b, V8 c, V8 d, float* out) {
  const __m128 sa = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 sb = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 sc = _mm_add_ps(_mm256_castps256_ps128(c), _mm256_extractf128_ps(c, 1));
  const __m128 sd = _mm_add_ps(_mm256_castps256_ps128(d), _mm256_extractf128_ps(d, 1));
  // 0+2 of a and b, then 1+3 of a and b
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(sa, sb), _mm_unpackhi_ps(sa, sb));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(sc, sd), _mm_unpackhi_ps(sc, sd));
  _mm_storeu_ps(out, _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab)));
}

#else

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));
struct V8 {
  F4 lo;
  F4 hi;
};

FULGER_INLINE V8 Set1(float x) { return {F4{x, x, x, x}, F4{x, x, x, x}}; }
FULGER_INLINE V8 Zero() { return Set1(0.0F); }
FULGER_INLINE V8 Load(const float* p) {
  V8 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
FULGER_INLINE V8 Load(const uint16_t* p) {
  uint32_t bits[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) bits[i] = static_cast<uint32_t>(p[i]) << 16;
  V8 v;
  std::memcpy(&v, bits, sizeof(v));
  return v;
}
FULGER_INLINE void Store(float* p, V8 v) { std::memcpy(p, &v, sizeof(v)); }
FULGER_INLINE V8 LoadN(const float* p, int64_t n) {
  float x[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = p[i];
  return Load(x);
}
FULGER_INLINE void StoreN(float* p, V8 v, int64_t n) {
  float x[kLanes];
  Store(x, v);
  for (int64_t i = 0; i < n; ++i) p[i] = x[i];
}
FULGER_INLINE V8 Add(V8 a, V8 b) { return {a.lo + b.lo, a.hi + b.hi}; }
FULGER_INLINE V8 Sub(V8 a, V8 b) { return {a.lo - b.lo, a.hi - b.hi}; }
FULGER_INLINE V8 Mul(V8 a, V8 b) { return {a.lo * b.lo, a.hi * b.hi}; }
FULGER_INLINE V8 Div(V8 a, V8 b) { return {a.lo / b.lo, a.hi / b.hi}; }
FULGER_INLINE V8 Fma(V8 a, V8 b, V8 c) { return {a.lo * b.lo + c.lo, a.hi * b.hi + c.hi}; }
FULGER_INLINE V8 Max(V8 a, V8 b) { return {a.lo > b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi}; }
FULGER_INLINE V8 Min(V8 a, V8 b) { return {a.lo < b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi}; }
FULGER_INLINE V8 SelectLess(V8 a, V8 b, V8 x, V8 y) {
  return {a.lo < b.lo ? x.lo : y.lo, a.hi < b.hi ? x.hi : y.hi};
}
FULGER_INLINE F4 Pow2Half(F4 n) {
  const I4 e = (__builtin_convertvector(n, I4) + 127) << 23;
  F4 out;
  std::memcpy(&out, &e, sizeof(out));
  return out;
}
FULGER_INLINE V8 Pow2(V8 n) { return {Pow2Half(n.lo), Pow2Half(n.hi)}; }
FULGER_INLINE float ReduceAdd(V8 v) {
  const F4 s = v.lo + v.hi;
  return (s[0] + s[2]) + (s[1] + s[3]);
}
FULGER_INLINE void ReduceAdd4(V8 a, V8 b, V8 c, V8 d, float* out) {
  out[0] = ReduceAdd(a);
  out[1] = ReduceAdd(b);
  out[2] = ReduceAdd(c);
  out[3] = ReduceAdd(d);
}

#endif

FULGER_INLINE V8 LoadN(const uint16_t* p, int64_t n) {
  uint16_t x[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = p[i];
  return Load(x);
}
FULGER_INLINE float ReduceMax(V8 v) {
  float x[kLanes];
  Store(x, v);
  float m = x[0];
  for (int64_t i = 1; i < kLanes; ++i) m = x[i] > m ? x[i] : m;
  return m;
}
FULGER_INLINE int64_t MinOf(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace fulger::cpu::FULGER_CPU_ISA
