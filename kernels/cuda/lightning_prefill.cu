// Lightning attention of whole chunks, packed sequences of any length. With p = 0 .. m-1 the place in a chunk
// and S the state before it:
//   update U = sum_p exp(-s (m-1-p)) k_p v_p^T                         all chunks at once
//   S_next   = exp(-s m) S + U                                         chunk after chunk, element by element
//   o_p      = exp(-s (p+1)) q_p S + sum_{j<=p} exp(-s (p-j)) (q_p k_j) v_j      all chunks at once
// so that a long prompt fills the GPU even with the few heads of one rank. The second pass leaves in U the
// state before each chunk. All of it float32 on the ordinary units.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kTile = 64;
constexpr int kTileK = 16;

struct alignas(16) Staging {
  float a[kTileK][kTile + 4];
  float b[kTileK][kTile + 4];
};

// acc[i][j] += sum over kk < k of a(row, kk) * b(kk, column) for the thread's rows 4 ty + i and columns
// tx + 16 j of a 64 x 64 tile. The loaders give zero outside; kARows / kBColumns: neighbours in memory are
// rows of a / columns of b (else neighbours are along k), for whole cache lines.
template <bool kARows, bool kBColumns, typename A, typename B>
__device__ __forceinline__ void TileProduct(int k, A a, B b, float (&acc)[4][4], Staging& s) {
  const int tx = threadIdx.x % 16;
  const int ty = threadIdx.x / 16;
  for (int k0 = 0; k0 < k; k0 += kTileK) {
    __syncthreads();
    for (int i = threadIdx.x; i < kTile * kTileK; i += kThreads) {
      const int row = kARows ? i % kTile : i / kTileK;
      const int kk = kARows ? i / kTile : i % kTileK;
      s.a[kk][row] = k0 + kk < k ? a(row, k0 + kk) : 0.0F;
    }
    for (int i = threadIdx.x; i < kTile * kTileK; i += kThreads) {
      const int column = kBColumns ? i % kTile : i / kTileK;
      const int kk = kBColumns ? i / kTile : i % kTileK;
      s.b[kk][column] = k0 + kk < k ? b(k0 + kk, column) : 0.0F;
    }
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < kTileK; ++kk) {
      const float4 av = *reinterpret_cast<const float4*>(&s.a[kk][4 * ty]);
      const float rows[4] = {av.x, av.y, av.z, av.w};
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float bv = s.b[kk][tx + 16 * j];
#pragma unroll
        for (int i = 0; i < 4; ++i) acc[i][j] = fmaf(rows[i], bv, acc[i][j]);
      }
    }
  }
}

// q, k and v of a chunk's head, after SiLU; zero outside.
struct HeadRows {
  const float* p;  // q of the chunk's first row
  int64_t ld;
  int m, d;
  __device__ float Value(int part, int row, int i) const {
    return row < m && i < d ? Silu(p[row * ld + part * d + i]) : 0.0F;
  }
  __device__ float q(int row, int i) const { return Value(0, row, i); }
  __device__ float k(int row, int i) const { return Value(1, row, i); }
  __device__ float v(int row, int i) const { return Value(2, row, i); }
};
__device__ __forceinline__ HeadRows RowsOf(const LightningPrefillLaunch& a, const LightningChunk& chunk,
                                           int64_t head) {
  const auto d = static_cast<int>(a.d);
  return {a.qkv.p + chunk.row * a.qkv.ld + head * 3 * d, a.qkv.ld, chunk.count, d};
}

__global__ void __launch_bounds__(kThreads) UpdateKernel(LightningPrefillLaunch a) {
  static __shared__ Staging staging;
  static __shared__ float decay[kLightningChunk];
  const LightningChunk chunk = a.chunks[blockIdx.x];
  const int64_t head = blockIdx.y;
  const auto d = static_cast<int>(a.d);
  const int tiles = (d + kTile - 1) / kTile;
  const int row0 = blockIdx.z / tiles * kTile;
  const int column0 = blockIdx.z % tiles * kTile;
  const HeadRows rows = RowsOf(a, chunk, head);
  for (int p = threadIdx.x; p < chunk.count; p += kThreads) {
    decay[p] = Decay(a.slopes[head], chunk.count - 1 - p);
  }
  float acc[4][4] = {};
  // The product's first barrier also makes `decay` visible.
  TileProduct<true, true>(
      chunk.count, [&](int i, int p) { return rows.k(p, row0 + i) * decay[p]; },
      [&](int p, int j) { return rows.v(p, column0 + j); }, acc, staging);
  float* u = a.updates + (blockIdx.x * a.heads + head) * d * d;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int row = row0 + threadIdx.x / 16 * 4 + i;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int column = column0 + threadIdx.x % 16 + 16 * j;
      if (row < d && column < d) u[static_cast<int64_t>(row) * d + column] = acc[i][j];
    }
  }
}

__global__ void __launch_bounds__(kThreads) ScanKernel(LightningPrefillLaunch a) {
  const LightningRun run = a.runs[blockIdx.x];
  const int64_t head = blockIdx.y;
  const int64_t size = a.d * a.d;
  const int64_t e = static_cast<int64_t>(blockIdx.z) * kThreads + threadIdx.x;
  if (e >= size) return;
  float* state = a.states + (run.slot * a.heads + head) * size + e;
  float s = *state;
  int known = -1;
  float decay = 0;
  for (int c = run.first; c < run.first + run.chunks; ++c) {
    const int m = a.chunks[c].count;
    if (m != known) {
      known = m;
      decay = Decay(a.slopes[head], m);
    }
    float* u = a.updates + (c * a.heads + head) * size + e;
    const float update = *u;
    *u = s;
    s = fmaf(decay, s, update);
  }
  *state = s;
}

__global__ void __launch_bounds__(kThreads) OutputKernel(LightningPrefillLaunch a) {
  static __shared__ Staging staging;
  static __shared__ float decay[kLightningChunk + 1];
  static __shared__ float scores[kTile][kTile + 1];
  const LightningChunk chunk = a.chunks[blockIdx.x];
  const int64_t head = blockIdx.y;
  const auto d = static_cast<int>(a.d);
  const int tiles = (d + kTile - 1) / kTile;
  const int row0 = blockIdx.z / tiles * kTile;
  const int column0 = blockIdx.z % tiles * kTile;
  if (row0 >= chunk.count) return;
  const HeadRows rows = RowsOf(a, chunk, head);
  for (int n = threadIdx.x; n <= chunk.count; n += kThreads) decay[n] = Decay(a.slopes[head], n);
  __syncthreads();
  const float* before = a.updates + (blockIdx.x * a.heads + head) * d * d;
  const int tx = threadIdx.x % 16;
  const int ty = threadIdx.x / 16;
  float acc[4][4] = {};
  TileProduct<false, true>(
      d,
      [&](int p, int i) {
        const int row = row0 + p;
        return row < chunk.count ? rows.q(row, i) * decay[row + 1] : 0.0F;
      },
      [&](int i, int j) {
        return column0 + j < d ? before[static_cast<int64_t>(i) * d + column0 + j] : 0.0F;
      },
      acc, staging);
  for (int j0 = 0; j0 <= row0; j0 += kTile) {
    float score[4][4] = {};
    TileProduct<false, false>(
        d, [&](int p, int i) { return rows.q(row0 + p, i); }, [&](int i, int j) { return rows.k(j0 + j, i); },
        score, staging);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int p = row0 + 4 * ty + i;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int at = j0 + tx + 16 * j;
        const bool sees = at <= p && p < chunk.count;
        scores[4 * ty + i][tx + 16 * j] = sees ? score[i][j] * decay[p - at] : 0.0F;
      }
    }
    __syncthreads();
    TileProduct<false, true>(
        min(kTile, chunk.count - j0), [&](int p, int j) { return scores[p][j]; },
        [&](int j, int c) { return rows.v(j0 + j, column0 + c); }, acc, staging);
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int p = row0 + 4 * ty + i;
    if (p >= chunk.count) continue;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int column = column0 + tx + 16 * j;
      if (column < d) a.out.p[(chunk.row + p) * a.out.ld + head * d + column] = acc[i][j];
    }
  }
}

}  // namespace

cudaError_t LightningPrefill(cudaStream_t stream, const LightningPrefillLaunch& a) {
  if (a.chunk_count == 0 || a.heads == 0 || a.d == 0) return cudaSuccess;
  const auto chunks = static_cast<unsigned>(a.chunk_count);
  const auto heads = static_cast<unsigned>(a.heads);
  const auto tiles = static_cast<unsigned>((a.d + kTile - 1) / kTile);
  const auto elements = static_cast<unsigned>((a.d * a.d + kThreads - 1) / kThreads);
  cudaError_t error = LaunchKernel(stream, {dim3(chunks, heads, tiles * tiles), kThreads}, UpdateKernel, a);
  if (error != cudaSuccess) return error;
  error = LaunchKernel(stream, {dim3(static_cast<unsigned>(a.run_count), heads, elements), kThreads},
                       ScanKernel, a);
  if (error != cudaSuccess) return error;
  return LaunchKernel(stream, {dim3(chunks, heads, (kLightningChunk / kTile) * tiles), kThreads},
                      OutputKernel, a);
}

}  // namespace fulger::cuda
