// The router: logits in float32, the k largest, their softmax. A warp computes an expert's logits of a few
// rows; one order of summation for every batch, so all ranks of a stage decide alike.
#include <cuda_bf16.h>

#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kRows = 4;  // per block: each gate weight that is read serves so many

// The k largest, ties to the lowest index. A NaN is never larger; if nothing else is left the lowest unused
// index is taken, so that ids are always legal. A logit that is not finite, chosen or not, makes the weights
// NaN: a health note follows.
__device__ void SelectTop(const float* logits, int experts, int k, int32_t* ids, float* weights) {
  for (int i = 0; i < k; ++i) {
    int best = -1;
    for (int e = 0; e < experts; ++e) {
      bool used = false;
      for (int j = 0; j < i; ++j) used = used || ids[j] == e;
      if (used) continue;
      if (best < 0 || logits[e] > logits[best] || (isnan(logits[best]) && !isnan(logits[e]))) best = e;
    }
    ids[i] = best;
    weights[i] = logits[best];
  }
  const float max = weights[0];  // descending
  float sum = 0;
  for (int e = 0; e < experts; ++e) sum = fmaf(0.0F, logits[e], sum);  // 0, or NaN
  for (int i = 0; i < k; ++i) {
    weights[i] = static_cast<float>(exp(static_cast<double>(weights[i] - max)));
    sum += weights[i];
  }
  for (int i = 0; i < k; ++i) weights[i] /= sum;
}

template <typename W>
__global__ void __launch_bounds__(32 * kWarps)
    RouterKernel(Rows x, const W* gate, int64_t gate_ld, int32_t* ids, float* weights, int64_t rows,
                 int64_t width, int experts, int k) {
  auto* logits = DynamicShared<float>();  // [kRows][experts]
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int lane = threadIdx.x % 32;
  const float* row[kRows];
#pragma unroll
  for (int r = 0; r < kRows; ++r) row[r] = x.p + min(first + r, rows - 1) * x.ld;
  for (int e = threadIdx.x / 32; e < experts; e += kWarps) {
    const W* w = gate + e * gate_ld;
    float acc[kRows] = {};
    for (int64_t i = lane; i < width; i += 32) {
      const float wv = ToFloat(w[i]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) acc[r] = fmaf(row[r][i], wv, acc[r]);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float sum = WarpSum(acc[r]);
      if (lane == 0) logits[r * experts + e] = sum;
    }
  }
  __syncthreads();
  const int64_t r = threadIdx.x;
  if (r >= kRows || first + r >= rows) return;
  SelectTop(logits + r * experts, experts, k, ids + (first + r) * k, weights + (first + r) * k);
}

}  // namespace

cudaError_t Router(cudaStream_t stream, Rows x, Vector gate, int64_t gate_ld, int32_t* ids, float* weights,
                   int64_t rows, int64_t width, int64_t experts, int64_t k) {
  if (rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((rows + kRows - 1) / kRows);
  const size_t shared = static_cast<size_t>(kRows * experts) * sizeof(float);
  const LaunchShape shape{blocks, 32 * kWarps, shared};
  const auto launch = [&]<typename W>(const W* w) {
    return LaunchKernel(stream, shape, RouterKernel<W>, x, w, gate_ld, ids, weights, rows, width,
                        static_cast<int>(experts), static_cast<int>(k));
  };
  return gate.type == Element::kBF16 ? launch(static_cast<const __nv_bfloat16*>(gate.p))
                                     : launch(static_cast<const float*>(gate.p));
}

}  // namespace fulger::cuda
