// Of repeated measurements.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

namespace fulger {

// The smallest value that at least `share` of them do not exceed. There must be one.
inline double Quantile(std::vector<double> v, double share) {
  std::sort(v.begin(), v.end());
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(v.size())));
  return v[std::clamp<size_t>(rank, 1, v.size()) - 1];
}

// The upper one of the two in the middle.
inline double Median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

}  // namespace fulger
