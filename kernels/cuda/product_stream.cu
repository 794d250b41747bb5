// Products of few rows with bfloat16 weights: decode. The weight is read once, at memory speed; each warp
// takes a few of its rows (output columns), each lane eight elements of every 256, and a butterfly adds the
// lanes. A row's bits do not depend on how many rows there are.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kWarps = 4;

// acc[t][c] = sum over k of x[t] * w[c], on every lane. `vectors`: all pointers allow 16-byte loads.
template <int kT, int kC>
__device__ __forceinline__ void WarpDots(const float* const (&x)[kT], const __nv_bfloat16* const (&w)[kC],
                                         int64_t k, bool vectors, float (&acc)[kT][kC]) {
#pragma unroll
  for (int t = 0; t < kT; ++t) {
#pragma unroll
    for (int c = 0; c < kC; ++c) acc[t][c] = 0;
  }
  const int lane = threadIdx.x % 32;
#pragma unroll 2
  for (int64_t k0 = lane * 8; k0 < k; k0 += 256) {
    const bool whole = vectors && k0 + 8 <= k;
    float wv[kC][8];
#pragma unroll
    for (int c = 0; c < kC; ++c) {
      whole ? Load8(w[c] + k0, wv[c]) : Load8Partial(w[c] + k0, k - k0, wv[c]);
    }
#pragma unroll
    for (int t = 0; t < kT; ++t) {
      float xv[8];
      whole ? Load8(x[t] + k0, xv) : Load8Partial(x[t] + k0, k - k0, xv);
#pragma unroll
      for (int c = 0; c < kC; ++c) {
#pragma unroll
        for (int i = 0; i < 8; ++i) acc[t][c] = fmaf(xv[i], wv[c][i], acc[t][c]);
      }
    }
  }
#pragma unroll
  for (int t = 0; t < kT; ++t) {
#pragma unroll
    for (int c = 0; c < kC; ++c) acc[t][c] = WarpSum(acc[t][c]);
  }
}

// Weight rows first + c, the last one repeated past the end: read, never stored.
template <int kC>
__device__ __forceinline__ void WeightRows(const __nv_bfloat16* w, int64_t ldw, int64_t first, int64_t n,
                                           const __nv_bfloat16* (&rows)[kC]) {
#pragma unroll
  for (int c = 0; c < kC; ++c) rows[c] = w + min(first + c, n - 1) * ldw;
}

template <int kT, int kC>
__global__ void __launch_bounds__(32 * kWarps) ProductStreamKernel(ProductLaunch a, bool vectors) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * kC;
  if (first >= a.n) return;
  const float* x[kT];
#pragma unroll
  for (int t = 0; t < kT; ++t) x[t] = a.x.p + min(static_cast<int64_t>(t), a.rows - 1) * a.x.ld;
  const __nv_bfloat16* w[kC];
  WeightRows(static_cast<const __nv_bfloat16*>(a.w.p), a.ldw, first, a.n, w);
  float acc[kT][kC];
  WarpDots(x, w, a.k, vectors, acc);
  if (threadIdx.x % 32 != 0) return;
#pragma unroll
  for (int c = 0; c < kC; ++c) {
    if (first + c >= a.n) break;
    const float bias = a.bias.p == nullptr ? 0.0F : At(a.bias, first + c);
#pragma unroll
    for (int t = 0; t < kT; ++t) {
      if (t < a.rows) a.out.p[t * a.out.ld + first + c] = acc[t][c] + bias;
    }
  }
}

template <int kT, int kC>
cudaError_t Launch(cudaStream_t stream, const ProductLaunch& a, bool vectors) {
  const int64_t columns = kWarps * kC;
  return LaunchKernel(stream, {static_cast<unsigned>((a.n + columns - 1) / columns), 32 * kWarps},
                      ProductStreamKernel<kT, kC>, a, vectors);
}

// Calls fn(first pair, x rows) for the expert's pairs, kT at a time; rows past the end repeat the last.
template <int kT, typename Row, typename F>
__device__ __forceinline__ void ForPairs(const int32_t* first, int64_t expert, Row row, F fn) {
  const int32_t end = first[expert + 1];
  for (int32_t p = first[expert]; p < end; p += kT) {
    const float* x[kT];
#pragma unroll
    for (int t = 0; t < kT; ++t) x[t] = row(min(p + t, end - 1));
    fn(p, min(kT, end - p), x);
  }
}

// hidden[pair, j] = SiLU(w1_j x) * (w3_j x), two columns a warp.
template <int kT>
__global__ void __launch_bounds__(32 * kWarps) MoeHiddenKernel(MoeStreamLaunch a, bool vectors) {
  constexpr int kC = 2;
  const int64_t expert = blockIdx.y;
  const int64_t j = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * kC;
  if (j >= a.f) return;
  const __nv_bfloat16* w[2 * kC];
  const __nv_bfloat16* w1[kC];
  const __nv_bfloat16* w3[kC];
  WeightRows(static_cast<const __nv_bfloat16*>(a.w1) + expert * a.f * a.h, a.h, j, a.f, w1);
  WeightRows(static_cast<const __nv_bfloat16*>(a.w3) + expert * a.f * a.h, a.h, j, a.f, w3);
#pragma unroll
  for (int c = 0; c < kC; ++c) w[c] = w1[c], w[kC + c] = w3[c];
  ForPairs<kT>(
      a.first, expert, [&](int32_t p) { return a.x.p + a.token[p] * a.x.ld; },
      [&](int32_t p, int32_t count, const float* const(&x)[kT]) {
        float acc[kT][2 * kC];
        WarpDots(x, w, a.h, vectors, acc);
        if (threadIdx.x % 32 != 0) return;
#pragma unroll
        for (int t = 0; t < kT; ++t) {
#pragma unroll
          for (int c = 0; c < kC; ++c) {
            if (t < count && j + c < a.f) a.hidden[(p + t) * a.f + j + c] = Silu(acc[t][c]) * acc[t][kC + c];
          }
        }
      });
}

template <int kT>
__global__ void __launch_bounds__(32 * kWarps) MoeDownKernel(MoeStreamLaunch a, bool vectors) {
  constexpr int kC = 4;
  const int64_t expert = blockIdx.y;
  const int64_t j = (static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32) * kC;
  if (j >= a.h) return;
  const __nv_bfloat16* w[kC];
  WeightRows(static_cast<const __nv_bfloat16*>(a.w2) + expert * a.h * a.f, a.f, j, a.h, w);
  ForPairs<kT>(
      a.first, expert, [&](int32_t p) { return a.hidden + p * a.f; },
      [&](int32_t p, int32_t count, const float* const(&x)[kT]) {
        float acc[kT][kC];
        WarpDots(x, w, a.f, vectors, acc);
        if (threadIdx.x % 32 != 0) return;
#pragma unroll
        for (int t = 0; t < kT; ++t) {
#pragma unroll
          for (int c = 0; c < kC; ++c) {
            if (t < count && j + c < a.h) a.down[(p + t) * a.h + j + c] = acc[t][c];
          }
        }
      });
}

template <int kT>
cudaError_t LaunchMoe(cudaStream_t stream, const MoeStreamLaunch& a, bool hidden_vectors, bool down_vectors) {
  const auto experts = static_cast<unsigned>(a.experts);
  const dim3 hidden(static_cast<unsigned>((a.f + 2 * kWarps - 1) / (2 * kWarps)), experts);
  const dim3 down(static_cast<unsigned>((a.h + 4 * kWarps - 1) / (4 * kWarps)), experts);
  const cudaError_t error =
      LaunchKernel(stream, {hidden, 32 * kWarps}, MoeHiddenKernel<kT>, a, hidden_vectors);
  if (error != cudaSuccess) return error;
  return LaunchKernel(stream, {down, 32 * kWarps}, MoeDownKernel<kT>, a, down_vectors);
}

}  // namespace

cudaError_t ProductStream(cudaStream_t stream, const ProductLaunch& a) {
  if (a.rows == 0 || a.n == 0) return cudaSuccess;
  const bool vectors =
      a.k % 8 == 0 && a.ldw % 8 == 0 && a.x.ld % 4 == 0 && Aligned16(a.w.p) && Aligned16(a.x.p);
  if (a.rows == 1) return Launch<1, 2>(stream, a, vectors);
  if (a.rows == 2) return Launch<2, 2>(stream, a, vectors);
  if (a.rows <= 4) return Launch<4, 2>(stream, a, vectors);
  return Launch<8, 4>(stream, a, vectors);
}

cudaError_t MoeStream(cudaStream_t stream, const MoeStreamLaunch& a) {
  if (a.tokens == 0 || a.experts == 0 || a.h == 0 || a.f == 0) return cudaSuccess;
  const bool hidden_vectors =
      a.h % 8 == 0 && a.x.ld % 4 == 0 && Aligned16(a.x.p) && Aligned16(a.w1) && Aligned16(a.w3);
  const bool down_vectors = a.f % 8 == 0 && Aligned16(a.hidden) && Aligned16(a.w2);
  return a.tokens == 1 ? LaunchMoe<1>(stream, a, hidden_vectors, down_vectors)
                       : LaunchMoe<4>(stream, a, hidden_vectors, down_vectors);
}

}  // namespace fulger::cuda
