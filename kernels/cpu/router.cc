#include <cmath>
#include <span>

#include "kernels/cpu/cpu_ops.h"
#include "kernels/ops/check_args.h"

namespace fulger {
namespace {

// The k largest, ties to the lowest index. A NaN is never larger; if nothing else is left the lowest unused
// index is taken, so that ids are always legal. A logit that is not finite, chosen or not, makes the weights
// NaN: a health note follows.
void SelectTop(float* logits, int64_t experts, int64_t k, int32_t* ids, float* chosen) {
  for (int64_t i = 0; i < k; ++i) {
    int64_t best = -1;
    for (int64_t e = 0; e < experts; ++e) {
      bool used = false;
      for (int64_t j = 0; j < i; ++j) used = used || ids[j] == e;
      if (!used &&
          (best < 0 || logits[e] > logits[best] || (std::isnan(logits[best]) && !std::isnan(logits[e])))) {
        best = e;
      }
    }
    ids[i] = static_cast<int32_t>(best);
    chosen[i] = logits[best];
  }
}

void Softmax(std::span<const float> logits, float* x, int64_t k) {
  const float max = x[0];  // descending
  float sum = 0;
  for (const float v : logits) sum += 0 * v;  // 0, or NaN
  for (int64_t i = 0; i < k; ++i) {
    x[i] = static_cast<float>(std::exp(static_cast<double>(x[i] - max)));
    sum += x[i];
  }
  for (int64_t i = 0; i < k; ++i) x[i] /= sum;
}

}  // namespace

absl::Status CpuOps::Router(Stream&, const RouterArgs& args) {
  RETURN_IF_ERROR(CheckArgs(args));
  const int64_t t = args.x.dim(0);
  const int64_t experts = args.gate.dim(0);
  const int64_t k = args.ids.dim(1);
  float* logits = context_.shared_scratch.Get<float>(t * experts);
  cpu::LinearBlock b = MakeLinearBlock(args.x, args.gate);
  b.out = logits;
  b.ldo = experts;
  context_.ParallelLinear(b);
  context_.ForRows(t, 4 * experts * k, [&](int64_t i) {
    float* weights = args.weights.mut_row<float>(i);
    SelectTop(logits + i * experts, experts, k, args.ids.mut_row<int32_t>(i), weights);
    Softmax({logits + i * experts, static_cast<size_t>(experts)}, weights, k);
  });
  return absl::OkStatus();
}

}  // namespace fulger
