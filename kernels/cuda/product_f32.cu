// Products with float32 weights, in float32 on the ordinary arithmetic units (never TF32). Every output is
// one chain of fused multiply-adds over ascending k, whatever the shape and the tile: a row's bits depend on
// nothing but the row and the weight. This is what makes the float32 model give the same tokens in every
// layout and batch, and why no library product stands here: those choose another order per shape.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTileN = 64;
constexpr int kTileK = 16;

// kPerThread rows and four columns per thread; 16 x 16 threads.
template <int kPerThread>
__global__ void __launch_bounds__(kThreads) ProductF32Kernel(ProductLaunch a) {
  constexpr int kTileM = 16 * kPerThread;
  static __shared__ float xs[kTileK][kTileM + 4];
  static __shared__ float ws[kTileK][kTileN + 4];
  int64_t first_row = static_cast<int64_t>(blockIdx.y) * kTileM;
  int64_t rows = min(static_cast<int64_t>(kTileM), a.rows - first_row);
  const auto* w = static_cast<const float*>(a.w.p);
  if (a.tiles != nullptr) {
    if (static_cast<int32_t>(blockIdx.y) >= *a.tile_count) return;
    const GroupTile tile = a.tiles[blockIdx.y];
    first_row = tile.row;
    rows = tile.rows;
    w += tile.expert * a.expert_stride;
  }
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTileN;
  const int tx = threadIdx.x % 16;
  const int ty = threadIdx.x / 16;
  float acc[kPerThread][4] = {};
  for (int64_t k0 = 0; k0 < a.k; k0 += kTileK) {
    for (int i = threadIdx.x; i < kTileM * kTileK; i += kThreads) {
      const int row = i / kTileK;
      const int kk = i % kTileK;
      float value = 0;
      if (row < rows && k0 + kk < a.k) {
        const int64_t source = a.row_of == nullptr ? first_row + row : a.row_of[first_row + row];
        value = a.x.p[source * a.x.ld + k0 + kk];
      }
      xs[kk][row] = value;
    }
    for (int i = threadIdx.x; i < kTileN * kTileK; i += kThreads) {
      const int column = i / kTileK;
      const int kk = i % kTileK;
      const bool inside = first_column + column < a.n && k0 + kk < a.k;
      ws[kk][column] = inside ? w[(first_column + column) * a.ldw + k0 + kk] : 0.0F;
    }
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < kTileK; ++kk) {
      float wv[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) wv[j] = ws[kk][tx + 16 * j];
#pragma unroll
      for (int i = 0; i < kPerThread; ++i) {
        const float xv = xs[kk][ty * kPerThread + i];
#pragma unroll
        for (int j = 0; j < 4; ++j) acc[i][j] = fmaf(xv, wv[j], acc[i][j]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int row = ty * kPerThread + i;
    if (row >= rows) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t column = first_column + tx + 16 * j;
      if (column >= a.n) continue;
      const float bias = a.bias.p == nullptr ? 0.0F : At(a.bias, column);
      a.out.p[(first_row + row) * a.out.ld + column] = acc[i][j] + bias;
    }
  }
}

}  // namespace

cudaError_t ProductF32(cudaStream_t stream, const ProductLaunch& a) {
  if (a.rows == 0 || a.n == 0) return cudaSuccess;
  const auto columns = static_cast<unsigned>((a.n + kTileN - 1) / kTileN);
  static_assert(kGroupTileRows == 64);
  if (a.tiles != nullptr) {
    const dim3 grid(columns, static_cast<unsigned>(a.max_tiles));
    return LaunchKernel(stream, {grid, kThreads}, ProductF32Kernel<4>, a);
  }
  if (a.rows <= 16) return LaunchKernel(stream, {columns, kThreads}, ProductF32Kernel<1>, a);
  // grid.y holds at most 65535 tiles: 4 million rows.
  const dim3 grid(columns, static_cast<unsigned>((a.rows + 63) / 64));
  return LaunchKernel(stream, {grid, kThreads}, ProductF32Kernel<4>, a);
}

}  // namespace fulger::cuda
