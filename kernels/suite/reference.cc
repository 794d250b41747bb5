#include "kernels/suite/reference.h"

#include <algorithm>
#include <cmath>

namespace fulger::ref {
namespace {

size_t At(int64_t i) { return static_cast<size_t>(i); }
double AbsIf(bool magnitude, double x) { return magnitude ? std::abs(x) : x; }

}  // namespace

double Silu(double x) { return x / (1 + std::exp(-x)); }
double Gelu(double x) { return 0.5 * x * std::erfc(-x / std::sqrt(2.0)); }

Values Linear(const Values& x, const Values& w, const Values& bias, int64_t k) {
  const size_t n = k == 0 ? bias.size() : w.size() / At(k);
  const size_t t = k == 0 ? 0 : x.size() / At(k);
  Values out(t * n);
  for (size_t i = 0; i < t; ++i) {
    for (size_t j = 0; j < n; ++j) {
      double sum = bias.empty() ? 0.0 : bias[j];
      for (size_t p = 0; p < At(k); ++p) sum += x[i * At(k) + p] * w[j * At(k) + p];
      out[i * n + j] = sum;
    }
  }
  return out;
}

Values LinearMagnitude(const Values& x, const Values& w, const Values& bias, int64_t k) {
  auto abs = [](Values v) {
    for (double& e : v) e = std::abs(e);
    return v;
  };
  return Linear(abs(x), abs(w), abs(bias), k);
}

Values RmsNorm(const Values& x, const Values& w, double eps) {
  Values out(x.size());
  for (size_t row = 0; row < x.size(); row += w.size()) {
    double sum = 0;
    for (size_t i = 0; i < w.size(); ++i) sum += x[row + i] * x[row + i];
    const double scale = 1 / std::sqrt(sum / static_cast<double>(w.size()) + eps);
    for (size_t i = 0; i < w.size(); ++i) out[row + i] = w[i] * x[row + i] * scale;
  }
  return out;
}

Values LayerNorm(const Values& x, const Values& w, const Values& b, double eps) {
  Values out(x.size());
  const auto n = static_cast<double>(w.size());
  for (size_t row = 0; row < x.size(); row += w.size()) {
    double mean = 0;
    for (size_t i = 0; i < w.size(); ++i) mean += x[row + i] / n;
    double var = 0;
    for (size_t i = 0; i < w.size(); ++i) var += (x[row + i] - mean) * (x[row + i] - mean) / n;
    for (size_t i = 0; i < w.size(); ++i)
      out[row + i] = (x[row + i] - mean) / std::sqrt(var + eps) * w[i] + b[i];
  }
  return out;
}

Values Lightning(const Values& qkv, const Values& slopes, int64_t d, Values& state, bool magnitude) {
  const auto heads = static_cast<int64_t>(slopes.size());
  const int64_t t = static_cast<int64_t>(qkv.size()) / (heads * 3 * d);
  Values out(At(t * heads * d), 0.0);
  for (int64_t row = 0; row < t; ++row) {
    for (int64_t h = 0; h < heads; ++h) {
      const double* q = qkv.data() + (row * heads + h) * 3 * d;
      const double* k = q + d;
      const double* v = k + d;
      double* s = state.data() + h * d * d;
      double* o = out.data() + (row * heads + h) * d;
      for (int64_t i = 0; i < d; ++i) {
        for (int64_t j = 0; j < d; ++j) {
          s[i * d + j] = std::exp(-slopes[At(h)]) * s[i * d + j] + AbsIf(magnitude, Silu(k[i]) * Silu(v[j]));
          o[j] += AbsIf(magnitude, Silu(q[i]) * s[i * d + j]);
        }
      }
    }
  }
  return out;
}

void Rotate(double* x, int64_t heads, int64_t d, const std::vector<float>& inv_freq, int64_t position) {
  const auto n = static_cast<int64_t>(inv_freq.size());
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < n; ++i) {
      const float angle = static_cast<float>(position) * inv_freq[At(i)];  // float32 by contract
      const double c = std::cos(static_cast<double>(angle));
      const double s = std::sin(static_cast<double>(angle));
      const double a = x[h * d + i];
      const double b = x[h * d + i + n];
      x[h * d + i] = a * c - b * s;
      x[h * d + i + n] = b * c + a * s;
    }
  }
}

Values Attend(const double* q, const Values& keys, const Values& values, int64_t n, int64_t d, double scale) {
  Values p(At(n));
  double max = -INFINITY;
  for (int64_t j = 0; j < n; ++j) {
    double dot = 0;
    for (int64_t i = 0; i < d; ++i) dot += q[i] * keys[At(j * d + i)];
    p[At(j)] = dot * scale;
    max = std::max(max, p[At(j)]);
  }
  double sum = 0;
  for (double& x : p) sum += x = std::exp(x - max);
  Values out(At(d), 0.0);
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < d; ++i) out[At(i)] += p[At(j)] / sum * values[At(j * d + i)];
  }
  return out;
}

void Route(const Values& logits, int64_t experts, int64_t k, std::vector<int64_t>& ids, Values& weights) {
  ids.clear();
  weights.clear();
  for (size_t row = 0; row < logits.size(); row += At(experts)) {
    std::vector<int64_t> order(At(experts));
    for (int64_t e = 0; e < experts; ++e) order[At(e)] = e;
    std::stable_sort(order.begin(), order.end(),
                     [&](int64_t a, int64_t b) { return logits[row + At(a)] > logits[row + At(b)]; });
    double sum = 0;
    for (int64_t i = 0; i < k; ++i)
      sum += std::exp(logits[row + At(order[At(i)])] - logits[row + At(order[0])]);
    for (int64_t i = 0; i < k; ++i) {
      ids.push_back(order[At(i)]);
      weights.push_back(std::exp(logits[row + At(order[At(i)])] - logits[row + At(order[0])]) / sum);
    }
  }
}

Values Expert(const Values& x, const double* w1, const double* w3, const double* w2, int64_t h, int64_t f,
              bool magnitude) {
  Values hidden(At(f));
  for (int64_t j = 0; j < f; ++j) {
    double gate = 0;
    double gate_size = 0;
    double up = 0;
    for (int64_t i = 0; i < h; ++i) {
      gate += w1[j * h + i] * x[At(i)];
      gate_size += std::abs(w1[j * h + i] * x[At(i)]);
      up += AbsIf(magnitude, w3[j * h + i] * x[At(i)]);
    }
    // |d SiLU| <= 1.1: an error of the gate reaches the hidden value at most that much enlarged.
    hidden[At(j)] = magnitude ? (std::abs(Silu(gate)) + 1.1 * gate_size) * up : Silu(gate) * up;
  }
  Values out(At(h), 0.0);
  for (int64_t i = 0; i < h; ++i) {
    for (int64_t j = 0; j < f; ++j) out[At(i)] += AbsIf(magnitude, w2[i * f + j]) * hidden[At(j)];
  }
  return out;
}

}  // namespace fulger::ref
