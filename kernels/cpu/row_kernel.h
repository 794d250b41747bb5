// Primitives on one row. Sums use eight lanes and the fixed tree of ReduceAdd.
#pragma once

#include "kernels/cpu/vec_math.h"

namespace fulger::cpu::FULGER_CPU_ISA {

// Calls body(i, load, store) over [0, n) in vectors; the loaders and the storer know whether the vector is
// whole.
struct Whole {
  int64_t i;
  template <typename T>
  FULGER_INLINE Vec Get(const T* p) const {
    return Load(p + i);
  }
  FULGER_INLINE void Put(float* p, Vec v) const { Store(p + i, v); }
};
struct Tail {
  int64_t i;
  int64_t n;
  template <typename T>
  FULGER_INLINE Vec Get(const T* p) const {
    return LoadN(p + i, n);
  }
  FULGER_INLINE void Put(float* p, Vec v) const { StoreN(p + i, v, n); }
};
template <typename F>
FULGER_INLINE void ForVectors(int64_t n, F body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(Whole{i});
  if (i < n) body(Tail{i, n - i});
}

template <typename At>
FULGER_INLINE Vec Weight(const At& at, const void* w, bool bf16) {
  return bf16 ? at.Get(static_cast<const uint16_t*>(w)) : at.Get(static_cast<const float*>(w));
}

inline float SumSquares(const float* x, int64_t n) {
  Vec acc = Zero();
  ForVectors(n, [&](auto at) {
    const Vec v = at.Get(x);
    acc = Fma(v, v, acc);
  });
  return ReduceAdd(acc);
}
inline float Sum(const float* x, int64_t n) {
  Vec acc = Zero();
  ForVectors(n, [&](auto at) { acc = Add(acc, at.Get(x)); });
  return ReduceAdd(acc);
}
inline float SumSquaresAround(const float* x, float mean, int64_t n) {
  Vec acc = Zero();
  const Vec m = Set1(mean);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec v = Sub(Load(x + i), m);
    acc = Fma(v, v, acc);
  }
  float rest = 0.0F;  // absent lanes would count mean^2
  for (; i < n; ++i) rest += (x[i] - mean) * (x[i] - mean);
  return ReduceAdd(acc) + rest;
}
inline void ScaleBy(const float* x, float scale, const void* w, bool w_bf16, float* out, int64_t n) {
  const Vec s = Set1(scale);
  if (w == nullptr) {
    ForVectors(n, [&](auto at) { at.Put(out, Mul(at.Get(x), s)); });
    return;
  }
  ForVectors(n, [&](auto at) { at.Put(out, Mul(Mul(at.Get(x), s), Weight(at, w, w_bf16))); });
}
inline void Normalize(const float* x, float mean, float scale, const void* w, bool w_bf16, const void* b,
                      bool b_bf16, float* out, int64_t n) {
  const Vec m = Set1(mean);
  const Vec s = Set1(scale);
  ForVectors(n, [&](auto at) {
    at.Put(out, Fma(Mul(Sub(at.Get(x), m), s), Weight(at, w, w_bf16), Weight(at, b, b_bf16)));
  });
}
inline void AddScaledRow(const float* a, float alpha, const float* b, float beta, float* out, int64_t n) {
  const Vec va = Set1(alpha);
  const Vec vb = Set1(beta);
  ForVectors(n, [&](auto at) { at.Put(out, Fma(va, at.Get(a), Mul(vb, at.Get(b)))); });
}
inline float GateRow(const float* o, const float* gate, const void* w, bool w_bf16, float* out, int64_t n) {
  Vec acc = Zero();
  ForVectors(n, [&](auto at) {
    const Vec v = at.Get(o);
    const Vec g = at.Get(gate);
    acc = Fma(g, Zero(), Fma(v, v, acc));  // the sigmoid of an infinity looks sound: the sum must not
    at.Put(out, Mul(Mul(Sigmoid(g), Weight(at, w, w_bf16)), v));
  });
  return ReduceAdd(acc);
}
inline void SiluMul(const float* a, const float* b, float* out, int64_t n) {
  ForVectors(n, [&](auto at) { at.Put(out, Mul(Silu(at.Get(a)), at.Get(b))); });
}
inline void GeluRow(float* x, int64_t n) {
  ForVectors(n, [&](auto at) {
    const Vec v = at.Get(x);
    at.Put(x, Mul(v, NormalCdf(v)));
  });
}
inline float SoftmaxRow(float* s, int64_t valid, int64_t n, float* max) {
  Vec high = Set1(s[0]);
  int64_t i = 0;
  for (; i + kLanes <= valid; i += kLanes) high = Max(high, Load(s + i));
  float m = ReduceMax(high);
  for (; i < valid; ++i) m = s[i] > m ? s[i] : m;
  const Vec vm = Set1(m);
  Vec acc = Zero();
  i = 0;
  for (; i + kLanes <= valid; i += kLanes) {
    const Vec e = Exp(Sub(Load(s + i), vm));
    Store(s + i, e);
    acc = Add(acc, e);
  }
  float rest = 0.0F;
  if (i < valid) {
    float e[kLanes];
    Store(e, Exp(Sub(LoadN(s + i, valid - i), vm)));
    for (int64_t c = 0; i < valid; ++i, ++c) {
      s[i] = e[c];
      rest += e[c];
    }
  }
  for (; i < n; ++i) s[i] = 0.0F;
  *max = m;
  return ReduceAdd(acc) + rest;
}
inline double FusedMultiplyAdds(int64_t rounds) {
  constexpr int kChains = kWide == 16 ? 24 : 12;
  Wide acc[kChains];
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) acc[i] = SetWide(static_cast<float>(i));
  const Wide x = SetWide(0.5F);
  Wide y = SetWide(0.25F);
  for (int64_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 32
    for (int i = 0; i < kChains; ++i) acc[i] = Fma(acc[i], x, y);
  }
  float sink[kWide];
#pragma GCC unroll 32
  for (int i = 0; i < kChains; ++i) y = Fma(acc[i], x, y);
  Store(sink, y);
  // The sum is finite and positive: it keeps the work from being optimised away.
  return sink[0] > 0 ? 2.0 * kChains * static_cast<double>(kWide * rounds) : 0.0;
}
inline void Widen(const void* row, bool bf16, float* out, int64_t n) {
  ForVectors(n, [&](auto at) { at.Put(out, Weight(at, row, bf16)); });
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
