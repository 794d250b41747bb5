// Partial rotary embedding of q and k, and the write of k and v into the paged cache, in one pass: a block
// per row. Pairs are (i, i + n) of the first 2n elements of a head.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T>
__global__ void __launch_bounds__(kThreads) RopeKernel(RopeLaunch a) {
  auto* turn = DynamicShared<float>();  // cosines, then sines
  const RopeRow at = a.work[blockIdx.x];
  const auto n = static_cast<int>(a.pairs);
  const auto d = static_cast<int>(a.d);
  float* cosine = turn;
  float* sine = turn + n;
  for (int i = threadIdx.x; i < n; i += kThreads) {
    // The angle is a float32 product, as the model was trained; its sine is exact to float32.
    const float angle = static_cast<float>(at.position) * a.inv_freq[i];
    double s;
    double c;
    sincos(static_cast<double>(angle), &s, &c);
    cosine[i] = static_cast<float>(c);
    sine[i] = static_cast<float>(s);
  }
  __syncthreads();
  float* q = a.q.p + at.row * a.q.ld;
  for (int64_t i = threadIdx.x; i < a.heads * n; i += kThreads) {
    const auto p = static_cast<int>(i % n);
    float* head = q + i / n * d;
    const float x = head[p];
    const float y = head[p + n];
    head[p] = x * cosine[p] - y * sine[p];
    head[p + n] = y * cosine[p] + x * sine[p];
  }
  const float* k = a.k.p + at.row * a.k.ld;
  const float* v = a.v.p + at.row * a.v.ld;
  for (int64_t i = threadIdx.x; i < a.kv_heads * d; i += kThreads) {
    const int64_t head = i / d;
    const auto e = static_cast<int>(i % d);
    const float* row = k + head * d;
    float value = row[e];
    if (e < n) {
      value = value * cosine[e] - row[e + n] * sine[e];
    } else if (e < 2 * n) {
      value = value * cosine[e - n] + row[e - n] * sine[e - n];
    }
    const int64_t place =
        ((at.block * a.kv_heads + head) * a.block_size + at.position % a.block_size) * d + e;
    static_cast<T*>(a.k_cache)[place] = FromFloat<T>(value);
    static_cast<T*>(a.v_cache)[place] = FromFloat<T>(v[i]);
  }
}

}  // namespace

cudaError_t RopeAndCache(cudaStream_t stream, const RopeLaunch& a) {
  if (a.count == 0 || a.d == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>(a.count);
  const size_t shared = static_cast<size_t>(2 * a.pairs) * sizeof(float);
  if (a.cache_type == Element::kBF16) {
    return LaunchKernel(stream, {blocks, kThreads, shared}, RopeKernel<__nv_bfloat16>, a);
  }
  return LaunchKernel(stream, {blocks, kThreads, shared}, RopeKernel<float>, a);
}

}  // namespace fulger::cuda
