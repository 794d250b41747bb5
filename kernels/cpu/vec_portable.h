// Eight lanes for any processor, by the compiler's vector extensions. Included by vec.h only.
#pragma once

#include <cstdint>
#include <cstring>

namespace fulger::cpu::FULGER_CPU_ISA {

constexpr int64_t kLanes = 8;

typedef float F4 __attribute__((vector_size(16)));
typedef int32_t I4 __attribute__((vector_size(16)));
struct Vec {
  F4 lo;
  F4 hi;
};

FULGER_INLINE Vec Set1(float x) { return {F4{x, x, x, x}, F4{x, x, x, x}}; }
FULGER_INLINE Vec Zero() { return Set1(0.0F); }
FULGER_INLINE Vec Load(const float* p) {
  Vec v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
FULGER_INLINE Vec Load(const uint16_t* p) {
  uint32_t bits[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) bits[i] = static_cast<uint32_t>(p[i]) << 16;
  Vec v;
  std::memcpy(&v, bits, sizeof(v));
  return v;
}
FULGER_INLINE Vec Load(const int8_t* p) {
  float x[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) x[i] = static_cast<float>(p[i]);
  return Load(x);
}
// Of sixteen elements 0, 2, .. 14 (kPart 0) or 1, 3, .. 15 (1).
template <int kPart, typename T>
FULGER_INLINE Vec LoadPart(const T* p) {
  T part[kLanes];
  for (int64_t i = 0; i < kLanes; ++i) part[i] = p[2 * i + kPart];
  return Load(part);
}
FULGER_INLINE void Store(float* p, Vec v) { std::memcpy(p, &v, sizeof(v)); }
FULGER_INLINE Vec LoadN(const float* p, int64_t n) {
  float x[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) x[i] = p[i];
  return Load(x);
}
FULGER_INLINE void StoreN(float* p, Vec v, int64_t n) {
  float x[kLanes];
  Store(x, v);
  for (int64_t i = 0; i < n; ++i) p[i] = x[i];
}
FULGER_INLINE Vec Add(Vec a, Vec b) { return {a.lo + b.lo, a.hi + b.hi}; }
FULGER_INLINE Vec Sub(Vec a, Vec b) { return {a.lo - b.lo, a.hi - b.hi}; }
FULGER_INLINE Vec Mul(Vec a, Vec b) { return {a.lo * b.lo, a.hi * b.hi}; }
FULGER_INLINE Vec Div(Vec a, Vec b) { return {a.lo / b.lo, a.hi / b.hi}; }
FULGER_INLINE Vec Fma(Vec a, Vec b, Vec c) { return {a.lo * b.lo + c.lo, a.hi * b.hi + c.hi}; }
FULGER_INLINE Vec Max(Vec a, Vec b) { return {a.lo > b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi}; }
FULGER_INLINE Vec Min(Vec a, Vec b) { return {a.lo < b.lo ? a.lo : b.lo, a.hi < b.hi ? a.hi : b.hi}; }
FULGER_INLINE Vec SelectLess(Vec a, Vec b, Vec x, Vec y) {
  return {a.lo < b.lo ? x.lo : y.lo, a.hi < b.hi ? x.hi : y.hi};
}
FULGER_INLINE F4 Pow2Half(F4 n) {
  const I4 e = (__builtin_convertvector(n, I4) + 127) << 23;
  F4 out;
  std::memcpy(&out, &e, sizeof(out));
  return out;
}
FULGER_INLINE Vec Pow2(Vec n) { return {Pow2Half(n.lo), Pow2Half(n.hi)}; }
FULGER_INLINE float ReduceAdd(Vec v) {
  const F4 s = v.lo + v.hi;
  return (s[0] + s[2]) + (s[1] + s[3]);
}
FULGER_INLINE void ReduceAdd4(Vec a, Vec b, Vec c, Vec d, float* out) {
  out[0] = ReduceAdd(a);
  out[1] = ReduceAdd(b);
  out[2] = ReduceAdd(c);
  out[3] = ReduceAdd(d);
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
