#include "worker/comm/sum.h"

#include <algorithm>
#include <cstring>

namespace fulger {

void SumInRankOrder(std::span<const float* const> inputs, std::span<float* const> outputs, size_t count) {
  constexpr size_t kBlock = 2048;  // 8 KiB: stays in L1 while all inputs pass by
  alignas(64) float sum[kBlock];
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t n = std::min(kBlock, count - begin);
    std::memcpy(sum, inputs[0] + begin, n * sizeof(float));
    for (const float* input : inputs.subspan(1)) {
      const float* x = input + begin;
      for (size_t i = 0; i < n; ++i) sum[i] += x[i];
    }
    for (float* output : outputs) std::memcpy(output + begin, sum, n * sizeof(float));
  }
}

}  // namespace fulger
