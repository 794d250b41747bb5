#include "worker/sampling/order.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>

namespace fulger {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

constexpr float kLeast = -87.0f;  // exp(kLeast) is the smallest weight

// exp(x) for x <= 0, relative error below 2e-7; 0 below -87 (also for -infinity). No libm: its variants for
// different machines differ in the last bit, and a loop around this one becomes vector code.
inline float ExpOf(float x) {
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const float clamped = x > kLeast ? x : kLeast;
  const int32_t exponent = static_cast<int32_t>(clamped * kLog2E - 0.5f);  // the nearest, since x <= 0
  const float n = static_cast<float>(exponent);
  const float r = (clamped - n * kLn2High) - n * kLn2Low;
  // Taylor to r^7 on |r| <= ln(2)/2: the remainder is below 6e-9.
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float scale = std::bit_cast<float>((exponent + 127) << 23);
  return x > kLeast ? p * scale : 0.0f;
}

}  // namespace

int32_t FirstOfOrder(std::span<const float> logits) {
  // Independent lanes: one running maximum would wait for itself at every step.
  float lanes[16];
  std::fill(std::begin(lanes), std::end(lanes), kOut);
  const size_t whole = logits.size() / 16 * 16;
  for (size_t i = 0; i < whole; i += 16) {
    for (size_t k = 0; k < 16; ++k) lanes[k] = logits[i + k] > lanes[k] ? logits[i + k] : lanes[k];
  }
  float best = *std::max_element(std::begin(lanes), std::end(lanes));
  for (size_t i = whole; i < logits.size(); ++i) best = std::max(best, logits[i]);
  if (best == kOut) return -1;
  return static_cast<int32_t>(std::find(logits.begin(), logits.end(), best) - logits.begin());
}

std::vector<Ranked> HeadOfOrder(std::span<const float> logits, int64_t count) {
  std::vector<Ranked> head;
  if (count <= 0) return head;
  const size_t keep = static_cast<size_t>(std::min<int64_t>(count, static_cast<int64_t>(logits.size())));
  const size_t room = std::min(logits.size(), std::max<size_t>(4 * keep, 1024));
  head.reserve(room);
  const auto shrink = [&] {
    std::nth_element(head.begin(), head.begin() + static_cast<ptrdiff_t>(keep - 1), head.end(), Before);
    head.resize(keep);
  };
  // Once `keep` are known, a logit must beat the last of them; an equal one has a higher id and loses.
  float threshold = kOut;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!(logits[i] > threshold)) continue;
    head.push_back({logits[i], static_cast<int32_t>(i)});
    if (head.size() < room) continue;
    if (head.size() > keep) shrink();
    threshold = head[keep - 1].logit;
  }
  if (head.size() > keep) shrink();
  std::sort(head.begin(), head.end(), Before);
  return head;
}

double Weights(std::span<const float> logits, float largest, float temperature, float min_weight,
               std::span<float> weights) {
  const size_t n = logits.size();
  for (size_t i = 0; i < n; ++i) {
    const float w = ExpOf((logits[i] - largest) / temperature);
    weights[i] = w >= min_weight ? w : 0.0f;
  }
  // Eight partial sums: exact order, independent additions.
  double partial[8] = {};
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (size_t k = 0; k < 8; ++k) partial[k] += static_cast<double>(weights[i + k]);
  }
  double sum = 0;
  for (const double p : partial) sum += p;
  for (; i < n; ++i) sum += static_cast<double>(weights[i]);
  return sum;
}

void MassAlongOrder::Assign(std::span<const float> logits, float largest, float temperature,
                            float min_weight) {
  logits_ = logits;
  weights_.resize(logits.size());
  range_of_.resize(logits.size());
  range_mass_.assign(kRanges, 0.0);
  Weights(logits, largest, temperature, min_weight, weights_);
  // A falling function of the logit, in every rounding: so ranges follow the order.
  constexpr float kPerUnit = static_cast<float>(kRanges) / (1.0f - kLeast);
  for (size_t i = 0; i < logits.size(); ++i) {
    const float depth = (largest - logits[i]) / temperature;
    range_of_[i] =
        static_cast<uint16_t>(static_cast<int32_t>((depth < -kLeast ? depth : -kLeast) * kPerUnit));
  }
  for (size_t i = 0; i < logits.size(); ++i) range_mass_[range_of_[i]] += static_cast<double>(weights_[i]);
  total_ = 0;
  for (const double mass : range_mass_) total_ += mass;
}

MassAlongOrder::Place MassAlongOrder::Find(double mass, bool reach) const {
  const auto there = [&](double m) { return reach ? m >= mass : m > mass; };
  double before = 0;
  size_t range = 0, last = 0;
  double before_last = 0;
  for (; range < kRanges; ++range) {
    if (range_mass_[range] == 0) continue;
    last = range;
    before_last = before;
    before += range_mass_[range];
    if (there(before)) break;
  }
  std::vector<Ranked> tokens;
  for (size_t i = 0; i < range_of_.size(); ++i) {
    if (range_of_[i] == last && weights_[i] > 0) tokens.push_back({logits_[i], static_cast<int32_t>(i)});
  }
  if (!std::is_sorted(tokens.begin(), tokens.end(), Before)) std::sort(tokens.begin(), tokens.end(), Before);
  Place place{.mass = before_last};
  for (const Ranked& token : tokens) {
    place.token = token;
    place.mass += static_cast<double>(weights_[static_cast<size_t>(token.id)]);
    if (there(place.mass)) break;
  }
  return place;
}

}  // namespace fulger
