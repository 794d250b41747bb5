#include "coordinator/planner/stage_cuts.h"

#include <algorithm>
#include <limits>

namespace fulger {
namespace {

struct Weights {
  std::vector<int64_t> before;  // sum of the layers before l
  int64_t first, last;
  int stages;

  int64_t Of(int stage, int begin, int end) const {
    return before[static_cast<size_t>(end)] - before[static_cast<size_t>(begin)] + (stage == 0 ? first : 0) +
           (stage == stages - 1 ? last : 0);
  }
};

}  // namespace

std::vector<int> BalancedStages(const std::vector<int64_t>& layers, int64_t first, int64_t last, int stages) {
  const int count = static_cast<int>(layers.size());
  if (stages < 1 || stages > count) return {};
  Weights weights{.before = {0}, .first = first, .last = last, .stages = stages};
  for (const int64_t layer : layers) weights.before.push_back(weights.before.back() + layer);

  // best[p][l]: the heaviest of stages 0..p that hold layers 0..l-1; cut[p][l]: where stage p begins.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const auto width = static_cast<size_t>(count) + 1;
  std::vector<std::vector<int64_t>> best(static_cast<size_t>(stages), std::vector<int64_t>(width, kMost));
  std::vector<std::vector<int>> cut(static_cast<size_t>(stages), std::vector<int>(width, 0));
  for (int p = 0; p < stages; ++p) {
    for (int end = p + 1; end <= count - (stages - 1 - p); ++end) {
      const auto e = static_cast<size_t>(end);
      const auto q = static_cast<size_t>(p);
      if (p == 0) {
        best[q][e] = weights.Of(0, 0, end);
        continue;
      }
      for (int begin = p; begin < end; ++begin) {
        const int64_t heaviest = std::max(best[q - 1][static_cast<size_t>(begin)], weights.Of(p, begin, end));
        if (heaviest < best[q][e]) {
          best[q][e] = heaviest;
          cut[q][e] = begin;
        }
      }
    }
  }

  std::vector<int> even;
  int64_t heaviest_even = 0;
  for (int p = 0; p < stages; ++p) {
    const int begin = p * count / stages, end = (p + 1) * count / stages;
    even.push_back(end - begin);
    heaviest_even = std::max(heaviest_even, weights.Of(p, begin, end));
  }
  if (heaviest_even == best.back().back()) return even;

  std::vector<int> sizes(static_cast<size_t>(stages));
  int end = count;
  for (int p = stages - 1; p >= 0; --p) {
    const int begin = p == 0 ? 0 : cut[static_cast<size_t>(p)][static_cast<size_t>(end)];
    sizes[static_cast<size_t>(p)] = end - begin;
    end = begin;
  }
  return sizes;
}

}  // namespace fulger
