// What kernels share: loads that widen to float32, reductions with a fixed order, activations. The build has
// no fast-math: expf, division and square roots are the accurate ones.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/launch_kernel.cuh"

namespace fulger::cuda {

__device__ __forceinline__ float ToFloat(float x) { return x; }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
template <typename T>
__device__ __forceinline__ T FromFloat(float x);
template <>
__device__ __forceinline__ float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Element i of a float32 or bfloat16 vector.
__device__ __forceinline__ float At(const Vector& v, int64_t i) {
  return v.type == Element::kBF16 ? ToFloat(static_cast<const __nv_bfloat16*>(v.p)[i])
                                  : static_cast<const float*>(v.p)[i];
}

__device__ __forceinline__ float Sigmoid(float x) { return 1.0F / (1.0F + expf(-x)); }
__device__ __forceinline__ float Silu(float x) { return x / (1.0F + expf(-x)); }

// Every lane gets the sum; the butterfly adds the same pairs on every lane.
__device__ __forceinline__ float WarpSum(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffU, v, offset);
  return v;
}
__device__ __forceinline__ float WarpMax(float v) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffU, v, offset));
  return v;
}

// The sum over a block of kThreads, given to every thread. May be called again at once.
template <int kThreads>
__device__ __forceinline__ float BlockSum(float v) {
  static_assert(kThreads % 32 == 0 && kThreads <= 1024);
  static __shared__ float sums[kThreads / 32];
  v = WarpSum(v);
  __syncthreads();  // an earlier call may still read `sums`
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = v;
  __syncthreads();
  float total = sums[0];
  for (int i = 1; i < kThreads / 32; ++i) total += sums[i];
  return total;
}

// Eight consecutive elements; p is 16-byte aligned.
__device__ __forceinline__ void Load8(const __nv_bfloat16* p, float (&v)[8]) {
  const uint4 raw = *reinterpret_cast<const uint4*>(p);
  const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(words[i] << 16);
    v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
  }
}
__device__ __forceinline__ void Load8(const float* p, float (&v)[8]) {
  const float4 a = *reinterpret_cast<const float4*>(p);
  const float4 b = *reinterpret_cast<const float4*>(p + 4);
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
// The first n of eight, zeros behind them.
template <typename T>
__device__ __forceinline__ void Load8Partial(const T* p, int64_t n, float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) v[i] = i < n ? ToFloat(p[i]) : 0.0F;
}

// exp(-slope * n) from the product itself, as the CPU does: factors such as exp(+slope * j) would overflow.
__device__ __forceinline__ float Decay(float slope, int n) {
  return static_cast<float>(exp(-static_cast<double>(slope) * static_cast<double>(n)));
}

inline bool Aligned16(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

}  // namespace fulger::cuda
