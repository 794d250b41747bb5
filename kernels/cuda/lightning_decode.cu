// Lightning attention, one token of each of many sequences: reads and writes every state once. A block takes
// one head of one token and a run of value columns; eight warps share the key dimension and are added in
// order, so a row's bits do not depend on the batch.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kWarps = 8;

// kWide value columns per lane: four where d allows 16-byte accesses.
template <int kWide>
__global__ void __launch_bounds__(32 * kWarps) DecodeKernel(LightningLaunch a) {
  auto* shared = DynamicShared<float>();
  const LightningToken token = a.tokens[blockIdx.x];
  const auto d = static_cast<int>(a.d);
  const int64_t head = blockIdx.y;
  const int first_column = (blockIdx.z * 32 + threadIdx.x % 32) * kWide;
  const int warp = threadIdx.x / 32;
  float* out = a.out.p + token.row * a.out.ld + head * d;
  if (token.slot < 0) {  // padding: its input is nobody's business
    if (warp == 0) {
      for (int c = 0; c < kWide; ++c) {
        if (first_column + c < d) out[first_column + c] = 0;
      }
    }
    return;
  }
  float* q = shared;
  float* k = q + d;
  float* sums = k + d;  // [kWarps][32 * kWide]
  const float* qkv = a.qkv.p + token.row * a.qkv.ld + head * 3 * d;
  for (int i = threadIdx.x; i < 2 * d; i += 32 * kWarps) shared[i] = Silu(qkv[i]);
  float v[kWide];
#pragma unroll
  for (int c = 0; c < kWide; ++c) v[c] = first_column + c < d ? Silu(qkv[2 * d + first_column + c]) : 0.0F;
  __syncthreads();

  const float decay = Decay(a.slopes[head], 1);
  float o[kWide] = {};
  const int share = (d + kWarps - 1) / kWarps;
  const int end = min(d, (warp + 1) * share);
  if (first_column < d) {
    float* state = a.states + (token.slot * a.heads + head) * d * d + first_column;
#pragma unroll 4
    for (int i = warp * share; i < end; ++i) {
      float s[kWide];
      if constexpr (kWide == 4) {
        const float4 raw = *reinterpret_cast<const float4*>(state + static_cast<int64_t>(i) * d);
        s[0] = raw.x, s[1] = raw.y, s[2] = raw.z, s[3] = raw.w;
      } else {
        s[0] = state[static_cast<int64_t>(i) * d];
      }
#pragma unroll
      for (int c = 0; c < kWide; ++c) {
        s[c] = __fmaf_rn(k[i], v[c], __fmul_rn(decay, s[c]));
        o[c] = __fmaf_rn(q[i], s[c], o[c]);
      }
      if constexpr (kWide == 4) {
        *reinterpret_cast<float4*>(state + static_cast<int64_t>(i) * d) = make_float4(s[0], s[1], s[2], s[3]);
      } else {
        state[static_cast<int64_t>(i) * d] = s[0];
      }
    }
  }
#pragma unroll
  for (int c = 0; c < kWide; ++c) sums[warp * 32 * kWide + threadIdx.x % 32 * kWide + c] = o[c];
  __syncthreads();
  if (warp != 0) return;
#pragma unroll
  for (int c = 0; c < kWide; ++c) {
    float total = 0;
    for (int w = 0; w < kWarps; ++w) total += sums[w * 32 * kWide + threadIdx.x * kWide + c];
    if (first_column + c < d) out[first_column + c] = total;
  }
}

template <int kWide>
cudaError_t Launch(cudaStream_t stream, const LightningLaunch& a) {
  const int64_t columns = 32 * kWide;
  const dim3 grid(static_cast<unsigned>(a.token_count), static_cast<unsigned>(a.heads),
                  static_cast<unsigned>((a.d + columns - 1) / columns));
  const size_t shared = static_cast<size_t>(2 * a.d + kWarps * columns) * sizeof(float);
  return LaunchKernel(stream, {grid, 32 * kWarps, shared}, DecodeKernel<kWide>, a);
}

}  // namespace

cudaError_t LightningDecode(cudaStream_t stream, const LightningLaunch& a) {
  if (a.token_count == 0 || a.heads == 0 || a.d == 0) return cudaSuccess;
  return a.d % 4 == 0 && Aligned16(a.states) ? Launch<4>(stream, a) : Launch<1>(stream, a);
}

}  // namespace fulger::cuda
