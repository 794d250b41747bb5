// Transcendental functions on eight lanes. Polynomials are our own least-squares (reweighted to minimax)
// fits.
#pragma once

#include "kernels/cpu/vec.h"

namespace fulger::cpu::FULGER_CPU_ISA {

// e^x to about 1 ulp; gradual underflow, infinity above 88.73; NaN stays NaN.
FULGER_INLINE Vec Exp(Vec x) {
  x = Min(Set1(89.0F), Max(Set1(-105.0F), x));  // operand order keeps NaN
  const Vec magic = Set1(12582912.0F);          // 1.5 * 2^23: adding it rounds to an integer
  const Vec n = Sub(Fma(x, Set1(1.44269504F), magic), magic);
  Vec r = Fma(n, Set1(-0.693145752F), x);  // ln 2 in two parts, the first exact in products with n
  r = Fma(n, Set1(-1.42860677e-6F), r);
  Vec p = Set1(0.00138131471F);
  p = Fma(p, r, Set1(0.00836941879F));
  p = Fma(p, r, Set1(0.041668456F));
  p = Fma(p, r, Set1(0.166665152F));
  p = Fma(p, r, Set1(0.49999994F));
  p = Add(Fma(Mul(r, r), p, r), Set1(1.0F));
  // 2^n in two factors: n reaches 128 and -152, one float exponent does not.
  const Vec half = Sub(Add(Mul(n, Set1(0.5F)), magic), magic);
  return Mul(Mul(p, Pow2(half)), Pow2(Sub(n, half)));
}

FULGER_INLINE Vec Sigmoid(Vec x) { return Div(Set1(1.0F), Add(Set1(1.0F), Exp(Sub(Zero(), x)))); }
FULGER_INLINE Vec Silu(Vec x) { return Div(x, Add(Set1(1.0F), Exp(Sub(Zero(), x)))); }

// The normal distribution function, 0.5 * erfc(-x / sqrt 2), within 1e-6 relative for |x| < 4 and 1e-6
// absolute everywhere: erfc(t) = exp(-t^2) * u * P(2u - 1) with u = 1 / (1 + 0.75 t), t = |x| / sqrt 2.
FULGER_INLINE Vec NormalCdf(Vec x) {
  const Vec minus_x = Sub(Zero(), x);
  // Beyond 12 the result is 0 or 1 to within 2e-33; the bound keeps infinities out of the quotient.
  const Vec t = Mul(Min(Set1(12.0F), Max(x, minus_x)), Set1(0.707106781F));
  const Vec u = Div(Set1(1.0F), Fma(t, Set1(0.75F), Set1(1.0F)));
  const Vec y = Sub(Add(u, u), Set1(1.0F));
  Vec p = Set1(-2.41336398e-4F);
  p = Fma(p, y, Set1(7.7834952e-4F));
  p = Fma(p, y, Set1(-1.88438236e-4F));
  p = Fma(p, y, Set1(-3.19756591e-3F));
  p = Fma(p, y, Set1(6.15838123e-3F));
  p = Fma(p, y, Set1(5.02882712e-3F));
  p = Fma(p, y, Set1(-3.91506627e-2F));
  p = Fma(p, y, Set1(6.7057251e-3F));
  p = Fma(p, y, Set1(0.321837395F));
  p = Fma(p, y, Set1(0.702269375F));
  const Vec tail = Mul(Set1(0.5F), Mul(Mul(p, u), Exp(Sub(Zero(), Mul(t, t)))));
  return SelectLess(x, Zero(), tail, Sub(Set1(1.0F), tail));
}

}  // namespace fulger::cpu::FULGER_CPU_ISA
