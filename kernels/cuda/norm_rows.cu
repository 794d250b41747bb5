// Normalisations: one block per row, statistics in float32, one order of summation whatever the batch is.
// A thread reads and writes only its own columns after the last read of its row, so `out` may be an input.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;

__device__ float InverseRoot(float sum, int64_t width, float eps) {
  const double mean = static_cast<double>(sum) / static_cast<double>(width);
  return static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
}

__device__ void Note(int32_t* health, int32_t tag, int64_t row, float sum) {
  if (health == nullptr || threadIdx.x != 0 || isfinite(sum)) return;
  if (health[row] == -1) health[row] = tag;
}

template <bool kAdd>
__global__ void RmsNormKernel(NormLaunch a) {
  const int64_t t = blockIdx.x;
  const float* x = a.x.p + t * a.x.ld;
  float* out = a.out.p + t * a.out.ld;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
    float v = x[i];
    if constexpr (kAdd) {
      v = fmaf(a.alpha, v, a.beta * a.branch.p[t * a.branch.ld + i]);
      out[i] = v;  // read again below, by this thread
    }
    sum = fmaf(v, v, sum);
  }
  sum = BlockSum<kThreads>(sum);
  Note(a.health, a.tag, t, sum);
  const float scale = InverseRoot(sum, a.width, a.eps);
  for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
    const float v = kAdd ? out[i] : x[i];
    out[i] = v * scale * At(a.w, i);
  }
}

__global__ void LayerNormKernel(NormLaunch a) {
  const int64_t t = blockIdx.x;
  const float* x = a.x.p + t * a.x.ld;
  float* out = a.out.p + t * a.out.ld;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < a.width; i += kThreads) sum += x[i];
  const float mean = BlockSum<kThreads>(sum) / static_cast<float>(a.width);
  float around = 0;
  for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
    const float v = x[i] - mean;
    around = fmaf(v, v, around);
  }
  const float scale = InverseRoot(BlockSum<kThreads>(around), a.width, a.eps);
  for (int64_t i = threadIdx.x; i < a.width; i += kThreads) {
    out[i] = fmaf((x[i] - mean) * scale, At(a.w, i), At(a.b, i));
  }
}

__global__ void LightningGateKernel(Rows o, Rows gate, Vector w, MutRows out, float* sumsq, int64_t sumsq_ld,
                                    int64_t width) {
  const int64_t t = blockIdx.x;
  float sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    const float v = o.p[t * o.ld + i];
    const float g = gate.p[t * gate.ld + i];
    sum = fmaf(g, 0.0F, fmaf(v, v, sum));  // the sigmoid of an infinity looks sound: the sum must not
    out.p[t * out.ld + i] = Sigmoid(g) * At(w, i) * v;
  }
  sum = BlockSum<kThreads>(sum);
  if (threadIdx.x == 0) sumsq[t * sumsq_ld] = sum;
}

}  // namespace

cudaError_t RmsNorm(cudaStream_t stream, const NormLaunch& a) {
  if (a.rows == 0 || a.width == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(a.rows), kThreads}, RmsNormKernel<false>, a);
}

cudaError_t AddRmsNorm(cudaStream_t stream, const NormLaunch& a) {
  if (a.rows == 0 || a.width == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(a.rows), kThreads}, RmsNormKernel<true>, a);
}

cudaError_t LayerNorm(cudaStream_t stream, const NormLaunch& a) {
  if (a.rows == 0 || a.width == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(a.rows), kThreads}, LayerNormKernel, a);
}

// A row without columns still has a sum: zero.
cudaError_t LightningGate(cudaStream_t stream, Rows o, Rows gate, Vector w, MutRows out, float* sumsq,
                          int64_t sumsq_ld, int64_t rows, int64_t width) {
  if (rows == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(rows), kThreads}, LightningGateKernel, o, gate, w, out,
                      sumsq, sumsq_ld, width);
}

}  // namespace fulger::cuda
