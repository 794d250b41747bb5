// Products of many rows with bfloat16 weights on tensor cores (sm_80 and later), for one weight or for the
// experts' groups of rows.
//
// Activations are float32. x = hi + mid + lo, each bfloat16, holds all 24 bits; products of two bfloat16 are
// exact in float32, so three tensor-core products give what a float32 product with the widened weight gives,
// up to the order and rounding of the sum.
#include <mma.h>

#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

using BF16 = __nv_bfloat16;
constexpr int kThreads = 128;  // four warps, each a quarter of the tile: 32 x 32
constexpr int kTile = 64;
constexpr int kTileK = 32;
constexpr int kLd = kTileK + 8;  // of the tiles in shared memory: rows stay 16-byte aligned, banks spread
constexpr int kPerThread = kTile * kTileK / kThreads;  // 16 elements of either operand
static_assert(kPerThread == 16 && kTile == kGroupTileRows);

__device__ __forceinline__ void Split(float x, BF16& hi, BF16& mid, BF16& lo) {
  hi = __float2bfloat16_rn(x);
  const float rest = x - __bfloat162float(hi);
  mid = __float2bfloat16_rn(rest);
  lo = __float2bfloat16_rn(rest - __bfloat162float(mid));
}

struct Tiles {
  BF16 x[3][kTile][kLd];
  BF16 w[kTile][kLd];
};
union Shared {
  Tiles tiles;
  float out[kTile][kTile + 4];
};

// Sixteen consecutive elements of a row, zeros where the row or the tile ends.
template <typename T>
__device__ __forceinline__ void LoadRun(const T* row, bool exists, int64_t k0, int64_t k, bool vectors,
                                        float (&v)[kPerThread]) {
  float part[8];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t at = k0 + 8 * half;
    if (exists && vectors && at + 8 <= k) {
      Load8(row + at, part);
    } else {
      Load8Partial(row + at, exists ? k - at : 0, part);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) v[8 * half + i] = part[i];
  }
}

__global__ void __launch_bounds__(kThreads)
    ProductTensorKernel(ProductLaunch a, bool x_vectors, bool w_vectors) {
  namespace wmma = nvcuda::wmma;
  alignas(128) static __shared__ Shared shared;
  int64_t first_row = static_cast<int64_t>(blockIdx.y) * kTile;
  int64_t rows = min(static_cast<int64_t>(kTile), a.rows - first_row);
  const auto* w = static_cast<const BF16*>(a.w.p);
  if (a.tiles != nullptr) {
    if (static_cast<int32_t>(blockIdx.y) >= *a.tile_count) return;
    const GroupTile tile = a.tiles[blockIdx.y];
    first_row = tile.row;
    rows = tile.rows;
    w += tile.expert * a.expert_stride;
  }
  const int64_t first_column = static_cast<int64_t>(blockIdx.x) * kTile;

  // Each thread loads half a row of either tile.
  const int row = threadIdx.x / 2;
  const int half = threadIdx.x % 2 * kPerThread;
  const bool row_exists = row < rows;
  const bool column_exists = first_column + row < a.n;
  int64_t source = 0;
  if (row_exists) source = a.row_of == nullptr ? first_row + row : a.row_of[first_row + row];
  const float* x_row = a.x.p + source * a.x.ld;
  const BF16* w_row = w + (column_exists ? first_column + row : 0) * a.ldw;
  float xv[kPerThread];
  float wv[kPerThread];
  LoadRun(x_row, row_exists, half, a.k, x_vectors, xv);
  LoadRun(w_row, column_exists, half, a.k, w_vectors, wv);

  const int warp = threadIdx.x / 32;
  const int warp_row = warp / 2 * 32;
  const int warp_column = warp % 2 * 32;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc[2][2];
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) wmma::fill_fragment(acc[i][j], 0.0F);
  }
  for (int64_t k0 = 0; k0 < a.k; k0 += kTileK) {
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      Split(xv[i], shared.tiles.x[0][row][half + i], shared.tiles.x[1][row][half + i],
            shared.tiles.x[2][row][half + i]);
      shared.tiles.w[row][half + i] = __float2bfloat16_rn(wv[i]);  // exact: it was bfloat16
    }
    __syncthreads();
    if (k0 + kTileK < a.k) {  // the next tiles travel while this one is multiplied
      LoadRun(x_row, row_exists, k0 + kTileK + half, a.k, x_vectors, xv);
      LoadRun(w_row, column_exists, k0 + kTileK + half, a.k, w_vectors, wv);
    }
#pragma unroll
    for (int kk = 0; kk < kTileK; kk += 16) {
      wmma::fragment<wmma::matrix_b, 16, 16, 16, BF16, wmma::col_major> wf[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        wmma::load_matrix_sync(wf[j], &shared.tiles.w[warp_column + 16 * j][kk], kLd);
      }
#pragma unroll
      for (int part = 2; part >= 0; --part) {  // the small parts first
        wmma::fragment<wmma::matrix_a, 16, 16, 16, BF16, wmma::row_major> xf[2];
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          wmma::load_matrix_sync(xf[i], &shared.tiles.x[part][warp_row + 16 * i][kk], kLd);
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
#pragma unroll
          for (int j = 0; j < 2; ++j) wmma::mma_sync(acc[i][j], xf[i], wf[j], acc[i][j]);
        }
      }
    }
    __syncthreads();
  }
  // The union changes its use: the last barrier of the loop (or, for k = 0, nothing) is behind us.
#pragma unroll
  for (int i = 0; i < 2; ++i) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      wmma::store_matrix_sync(&shared.out[warp_row + 16 * i][warp_column + 16 * j], acc[i][j], kTile + 4,
                              wmma::mem_row_major);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTile * kTile; i += kThreads) {
    const int r = i / kTile;
    const int64_t column = first_column + i % kTile;
    if (r >= rows || column >= a.n) continue;
    const float bias = a.bias.p == nullptr ? 0.0F : At(a.bias, column);
    a.out.p[(first_row + r) * a.out.ld + column] = shared.out[r][i % kTile] + bias;
  }
}

__global__ void SplitKernel(Rows x, int64_t k, BF16* parts, int64_t part_size) {
  const int64_t t = blockIdx.x;
  for (int64_t i = threadIdx.x; i < k; i += blockDim.x) {
    BF16* at = parts + t * k + i;
    Split(x.p[t * x.ld + i], at[0], at[part_size], at[2 * part_size]);
  }
}

}  // namespace

cudaError_t ProductTensor(cudaStream_t stream, const ProductLaunch& a) {
  if (a.rows == 0 || a.n == 0) return cudaSuccess;
  const bool x_vectors = a.x.ld % 4 == 0 && Aligned16(a.x.p);
  const bool w_vectors = a.ldw % 8 == 0 && a.expert_stride % 8 == 0 && Aligned16(a.w.p);
  const int64_t row_tiles = a.tiles != nullptr ? a.max_tiles : (a.rows + kTile - 1) / kTile;
  const dim3 grid(static_cast<unsigned>((a.n + kTile - 1) / kTile), static_cast<unsigned>(row_tiles));
  return LaunchKernel(stream, {grid, kThreads}, ProductTensorKernel, a, x_vectors, w_vectors);
}

cudaError_t SplitToBF16(cudaStream_t stream, Rows x, int64_t rows, int64_t k, void* parts) {
  if (rows == 0 || k == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(rows), 256}, SplitKernel, x, k,
                      static_cast<BF16*>(parts), rows * k);
}

}  // namespace fulger::cuda
