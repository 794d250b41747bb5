// The ops in double precision, written as plainly as the formulas: the specification that the suite compares
// with. Shapes are those of kernels/ops/*.h, flattened row-major. `magnitude` twins sum absolute values: the
// scale of rounding errors.
#pragma once

#include <cstdint>
#include <vector>

namespace fulger::ref {

using Values = std::vector<double>;

double Silu(double x);
double Gelu(double x);

// x [T, K], w [N, K], bias [N] or empty.
Values Linear(const Values& x, const Values& w, const Values& bias, int64_t k);
Values LinearMagnitude(const Values& x, const Values& w, const Values& bias, int64_t k);

Values RmsNorm(const Values& x, const Values& w, double eps);
Values LayerNorm(const Values& x, const Values& w, const Values& b, double eps);

// One sequence of T tokens, one token at a time: qkv [T, heads, 3 d] before SiLU, state [heads, d, d]
// updated. Returns [T, heads * d]. With `magnitude`, every term counts by its absolute value.
Values Lightning(const Values& qkv, const Values& slopes, int64_t d, Values& state, bool magnitude = false);

// x [heads, d] of one row rotated for `position`.
void Rotate(double* x, int64_t heads, int64_t d, const std::vector<float>& inv_freq, int64_t position);

// Attention of one query vector over n keys and values of d elements.
Values Attend(const double* q, const Values& keys, const Values& values, int64_t n, int64_t d, double scale);

// The k largest of each row of logits [T, E], and their softmax.
void Route(const Values& logits, int64_t experts, int64_t k, std::vector<int64_t>& ids, Values& weights);

// w2 (SiLU(w1 x) * (w3 x)) for one token; w1, w3 [F, H], w2 [H, F].
Values Expert(const Values& x, const double* w1, const double* w3, const double* w2, int64_t h, int64_t f,
              bool magnitude = false);

}  // namespace fulger::ref
