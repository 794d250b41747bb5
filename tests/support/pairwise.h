// All-pairs coverage: a short list of cases in which every two values of two different parameters meet at
// least once. Greedy and deterministic: each new case is the best of a fixed number of candidates drawn from
// a seeded generator.
#pragma once

#include <cstddef>
#include <random>
#include <set>
#include <tuple>
#include <vector>

namespace fulger {

// `sizes[p]` is the number of values of parameter p. Each case holds one index per parameter.
inline std::vector<std::vector<size_t>> PairwiseCases(const std::vector<size_t>& sizes, unsigned seed = 1) {
  using Pair = std::tuple<size_t, size_t, size_t, size_t>;  // parameter, value, parameter, value
  std::set<Pair> open;
  for (size_t p = 0; p < sizes.size(); ++p) {
    for (size_t q = p + 1; q < sizes.size(); ++q) {
      for (size_t a = 0; a < sizes[p]; ++a) {
        for (size_t b = 0; b < sizes[q]; ++b) open.emplace(p, a, q, b);
      }
    }
  }
  const auto covered = [&open](const std::vector<size_t>& c) {
    std::vector<Pair> pairs;
    for (size_t p = 0; p < c.size(); ++p) {
      for (size_t q = p + 1; q < c.size(); ++q) {
        if (open.contains({p, c[p], q, c[q]})) pairs.emplace_back(p, c[p], q, c[q]);
      }
    }
    return pairs;
  };
  constexpr int kCandidates = 50;
  std::mt19937 random(seed);
  std::vector<std::vector<size_t>> cases;
  while (!open.empty()) {
    std::vector<size_t> best;
    size_t best_count = 0;
    for (int i = 0; i < kCandidates; ++i) {
      std::vector<size_t> candidate;
      for (const size_t size : sizes) candidate.push_back(random() % size);
      // Every candidate starts from a pair that is still open, so that each round makes progress.
      const auto& [p, a, q, b] = *open.begin();
      candidate[p] = a;
      candidate[q] = b;
      const size_t count = covered(candidate).size();
      if (count > best_count) {
        best_count = count;
        best = candidate;
      }
    }
    for (const Pair& pair : covered(best)) open.erase(pair);
    cases.push_back(best);
  }
  return cases;
}

}  // namespace fulger
