// Eight float32 lanes. The kernels are written once against these functions and compiled per instruction set:
// portable (GCC vector extensions, any processor), AVX2 + FMA (kernels_avx2.cc defines FULGER_CPU_AVX2) and
// AVX-512 (kernels_avx512.cc defines FULGER_CPU_AVX512).
//
// A Wide has sixteen lanes with AVX-512 and is a Vec otherwise. It is for work whose bits do not depend on
// the number of lanes, so that AVX-512 and AVX2 agree in every bit.
//
// Everything here and in the *_kernel.h files lives in a namespace per instruction set, and these files
// include nothing that has inline functions of its own: a linker may keep one copy of an inline function, and
// it must not be the AVX2 one where the portable is called.
#pragma once

#include <cstdint>
#include <cstring>

#define FULGER_INLINE inline __attribute__((always_inline))

#if defined(FULGER_CPU_AVX512)
#define FULGER_CPU_ISA avx512
#include "kernels/cpu/vec_avx512.h"
#elif defined(FULGER_CPU_AVX2)
#define FULGER_CPU_ISA avx2
#include "kernels/cpu/vec_avx2.h"
#else
#define FULGER_CPU_ISA portable
#include "kernels/cpu/vec_portable.h"
#endif

namespace fulger::cpu::FULGER_CPU_ISA {

#ifndef FULGER_CPU_AVX512
constexpr int64_t kWide = kLanes;
using Wide = Vec;
FULGER_INLINE Wide ZeroWide() { return Zero(); }
FULGER_INLINE Wide SetWide(float x) { return Set1(x); }
template <typename T>
FULGER_INLINE Wide LoadWide(const T* p) {
  return Load(p);
}
#endif

// n < kLanes elements of a weight's type, zeros behind them.
template <typename W>
FULGER_INLINE Vec LoadN(const W* p, int64_t n) {
  W x[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = p[i];
  return Load(x);
}
FULGER_INLINE float ReduceMax(Vec v) {
  float x[kLanes];
  Store(x, v);
  float m = x[0];
  for (int64_t i = 1; i < kLanes; ++i) m = x[i] > m ? x[i] : m;
  return m;
}
FULGER_INLINE int64_t MinOf(int64_t a, int64_t b) { return a < b ? a : b; }

}  // namespace fulger::cpu::FULGER_CPU_ISA
