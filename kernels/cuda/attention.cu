// Softmax attention of tiles of query vectors over keys in pages (decode and prefill) or in rows (the ViT).
//
// A block takes one tile and one kv head and walks its splits of positions in runs of kRun keys: scores in
// float32, an online softmax within the split, then the split is merged into what went before. A tile that
// takes all of its splits writes the output; where few tiles have long contexts (decode), each split is a
// block of its own and MergeKernel merges them: the same arithmetic in the same order, so the same bits.
#include <cfloat>

#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectors = kAttentionVectors;
constexpr int kRun = 64;
static_assert(kAttentionSplit % kRun == 0);

// old = old * scale_old + part * scale_part: the weights of the two sides, by their maxima.
struct MergeScales {
  float max, old_scale, part_scale;
};
__device__ __forceinline__ MergeScales ScalesOf(float old_max, float part_max) {
  const float max = fmaxf(old_max, part_max);
  return {max, expf(old_max - max), expf(part_max - max)};
}
__device__ __forceinline__ float Merged(float old, const MergeScales& s, float part) {
  return __fmaf_rn(old, s.old_scale, __fmul_rn(part, s.part_scale));
}

// Shared memory, in this order; K and V in the cache's type.
template <typename T>
struct Layout {
  int d, q_ld, k_ld, v_ld;
  __host__ __device__ explicit Layout(int dim)
      : d(dim), q_ld((dim + 3) / 4 * 4), k_ld(dim + (sizeof(T) == 2 ? 2 : 1)), v_ld(dim) {}
  __host__ __device__ int q_floats() const { return kVectors * q_ld; }
  __host__ __device__ int score_floats() const { return kVectors * kRun; }
  __host__ __device__ size_t bytes() const {
    return static_cast<size_t>(q_floats() + score_floats()) * sizeof(float) +
           static_cast<size_t>(kRun * (k_ld + v_ld)) * sizeof(T);
  }
};

// Copies `keys` rows of d elements into shared memory; at(j) is row j.
template <typename T, typename RowAt>
__device__ __forceinline__ void LoadKeys(T* to, int ld, int d, int keys, bool vectors, RowAt at) {
  constexpr int kWide = 16 / sizeof(T);
  if (vectors) {
    const int pieces = d / kWide;
    for (int i = threadIdx.x; i < keys * pieces; i += kThreads) {
      const int j = i / pieces;
      const int e = i % pieces * kWide;
      const uint4 raw = *reinterpret_cast<const uint4*>(at(j) + e);
      const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
      auto* place = reinterpret_cast<uint32_t*>(to + j * ld + e);
#pragma unroll
      for (int w = 0; w < 4; ++w) place[w] = words[w];
    }
    return;
  }
  for (int i = threadIdx.x; i < keys * d; i += kThreads) to[i / d * ld + i % d] = at(i / d)[i % d];
}

// kDim: columns that threads are spread over, at least d.
template <typename T, int kDim>
__global__ void __launch_bounds__(kThreads) AttentionKernel(AttentionLaunch a, bool vectors) {
  constexpr int kGroups = kThreads / kDim;
  constexpr int kPerThread = kVectors / kGroups;  // vectors whose column `column` this thread accumulates
  static __shared__ float run_max[kVectors], run_sum[kVectors];  // of the split
  static __shared__ float all_max[kVectors], all_sum[kVectors];  // of the splits merged so far
  static __shared__ float correction[kVectors];
  static __shared__ const T* key_rows[kRun];
  static __shared__ const T* value_rows[kRun];
  const AttentionTile tile = a.tiles[blockIdx.x];
  const auto kv_head = static_cast<int64_t>(blockIdx.y);
  const auto d = static_cast<int>(a.d);
  const auto group = static_cast<int>(a.group);
  const Layout<T> layout(d);
  auto* q = DynamicShared<float>();
  float* scores = q + layout.q_floats();
  T* keys = reinterpret_cast<T*>(scores + layout.score_floats());
  T* values = keys + kRun * layout.k_ld;
  const bool paged = a.blocks != nullptr;

  for (int i = threadIdx.x; i < layout.q_floats(); i += kThreads) {
    const int vec = i / layout.q_ld;
    const int e = i % layout.q_ld;
    float value = 0;
    if (vec < tile.vectors && e < d) {
      const int flat = tile.first + vec;
      const int64_t head = kv_head * group + flat % group;
      value = a.q[tile.q + flat / group * a.q_row + head * a.q_head + e] * a.scale;
    }
    q[i] = value;
  }
  if (threadIdx.x < kVectors) {
    all_max[threadIdx.x] = -INFINITY;
    all_sum[threadIdx.x] = 0;
  }
  // The last position that a vector sees, and that any of the tile sees.
  const auto last_of = [&](int vec) {
    return paged ? tile.position + (tile.first + vec) / group : static_cast<int>(a.keys) - 1;
  };
  const int end_of_tile = last_of(tile.vectors - 1) + 1;

  const int column = threadIdx.x % kDim;
  const int first_vector = threadIdx.x / kDim * kPerThread;
  float all[kPerThread] = {};
  for (int split = tile.split; split < tile.split + tile.splits; ++split) {
    const int begin = split * kAttentionSplit;
    const int end = min(begin + kAttentionSplit, end_of_tile);
    float acc[kPerThread] = {};
    __syncthreads();
    if (threadIdx.x < kVectors) {
      run_max[threadIdx.x] = -INFINITY;
      run_sum[threadIdx.x] = 0;
    }
    for (int first_key = begin; first_key < end; first_key += kRun) {
      const int count = min(kRun, end - first_key);
      __syncthreads();  // the tiles of the previous run are done with
      if (threadIdx.x < count) {
        const int position = first_key + threadIdx.x;
        if (paged) {
          const int64_t block = a.blocks[tile.table + position / a.block_size];
          const int64_t at = ((block * a.kv_heads + kv_head) * a.block_size + position % a.block_size) * d;
          key_rows[threadIdx.x] = static_cast<const T*>(a.k) + at;
          value_rows[threadIdx.x] = static_cast<const T*>(a.v) + at;
        } else {
          key_rows[threadIdx.x] =
              static_cast<const T*>(a.k) + tile.k + kv_head * a.k_head + position * a.k_row;
          value_rows[threadIdx.x] =
              static_cast<const T*>(a.v) + tile.v + kv_head * a.v_head + position * a.v_row;
        }
      }
      __syncthreads();
      LoadKeys(keys, layout.k_ld, d, count, vectors, [&](int j) { return key_rows[j]; });
      LoadKeys(values, layout.v_ld, d, count, vectors, [&](int j) { return value_rows[j]; });
      __syncthreads();

      {  // Scores: a thread takes one key and four vectors.
        const int key = threadIdx.x % kRun;
        const int vec0 = threadIdx.x / kRun * 4;
        float dot[4] = {};
        if (key < count) {
          const T* k_row = keys + key * layout.k_ld;
          const int whole = d / 4 * 4;
          for (int e = 0; e < whole; e += 4) {
            const float k0 = ToFloat(k_row[e]);
            const float k1 = ToFloat(k_row[e + 1]);
            const float k2 = ToFloat(k_row[e + 2]);
            const float k3 = ToFloat(k_row[e + 3]);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
              const float4 qv = *reinterpret_cast<const float4*>(q + (vec0 + i) * layout.q_ld + e);
              dot[i] = fmaf(qv.x, k0, dot[i]);
              dot[i] = fmaf(qv.y, k1, dot[i]);
              dot[i] = fmaf(qv.z, k2, dot[i]);
              dot[i] = fmaf(qv.w, k3, dot[i]);
            }
          }
          for (int e = whole; e < d; ++e) {
            const float kv = ToFloat(k_row[e]);
#pragma unroll
            for (int i = 0; i < 4; ++i) dot[i] = fmaf(q[(vec0 + i) * layout.q_ld + e], kv, dot[i]);
          }
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool visible = key < count && vec0 + i < tile.vectors && first_key + key <= last_of(vec0 + i);
          scores[(vec0 + i) * kRun + key] = visible ? dot[i] : -INFINITY;
        }
      }
      __syncthreads();

      {  // Softmax within the split: a warp takes two vectors, a lane two keys of each.
        const int lane = threadIdx.x % 32;
        for (int vec = threadIdx.x / 32 * 2; vec < threadIdx.x / 32 * 2 + 2; ++vec) {
          float* row = scores + vec * kRun;
          const float s0 = row[lane];
          const float s1 = row[lane + 32];
          const float old_max = run_max[vec];
          const float max = fmaxf(old_max, WarpMax(fmaxf(s0, s1)));
          // Nothing visible yet: all weights are zero. A NaN score is not the maximum, but its weight is NaN.
          const bool none = max == -INFINITY && !isnan(s0) && !isnan(s1);
          const float base = max == -INFINITY ? 0.0F : max;
          const float p0 = none ? 0.0F : expf(s0 - base);
          const float p1 = none ? 0.0F : expf(s1 - base);
          row[lane] = p0;
          row[lane + 32] = p1;
          const float sum = WarpSum(p0 + p1);
          __syncwarp();
          if (lane == 0) {
            const float scale = expf(old_max - base);  // 0 before the first visible key
            correction[vec] = scale;
            run_sum[vec] = __fmaf_rn(run_sum[vec], scale, sum);
            run_max[vec] = max;
          }
          __syncwarp();
        }
      }
      __syncthreads();

      if (column < d) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) acc[i] *= correction[first_vector + i];
        for (int j = 0; j < count; ++j) {
          const float v = ToFloat(values[j * layout.v_ld + column]);
#pragma unroll
          for (int i = 0; i < kPerThread; ++i) {
            acc[i] = fmaf(scores[(first_vector + i) * kRun + j], v, acc[i]);
          }
        }
      }
    }
    __syncthreads();
    if (tile.part >= 0) {  // exactly one split: its partial result
      const int64_t base =
          (static_cast<int64_t>(tile.part) * a.kv_heads + kv_head) * kVectors * (static_cast<int64_t>(d) + 2);
      float* part = a.partials + base;
      if (threadIdx.x < kVectors) {
        part[threadIdx.x] = run_max[threadIdx.x];
        part[kVectors + threadIdx.x] = run_sum[threadIdx.x];
      }
      if (column < d) {
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) part[2 * kVectors + (first_vector + i) * d + column] = acc[i];
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const int vec = first_vector + i;
      if (run_sum[vec] == 0.0F) continue;  // saw no position; a sum over any position is at least exp(0)
      all[i] = Merged(all[i], ScalesOf(all_max[vec], run_max[vec]), acc[i]);
    }
    __syncthreads();
    if (threadIdx.x < kVectors && run_sum[threadIdx.x] != 0.0F) {
      const MergeScales s = ScalesOf(all_max[threadIdx.x], run_max[threadIdx.x]);
      all_sum[threadIdx.x] = Merged(all_sum[threadIdx.x], s, run_sum[threadIdx.x]);
      all_max[threadIdx.x] = s.max;
    }
  }
  __syncthreads();
  if (column >= d) return;
#pragma unroll
  for (int i = 0; i < kPerThread; ++i) {
    const int vec = first_vector + i;
    if (vec >= tile.vectors) continue;
    const int flat = tile.first + vec;
    const int64_t head = kv_head * group + flat % group;
    a.out[tile.out + flat / group * a.out_row + head * d + column] = all[i] * (1.0F / all_sum[vec]);
  }
}

__global__ void MergeKernel(AttentionLaunch a) {
  const AttentionMerge merge = a.merges[blockIdx.x];
  const AttentionTile tile = a.tiles[merge.tile];
  const auto kv_head = static_cast<int64_t>(blockIdx.y);
  const auto d = static_cast<int>(a.d);
  const auto group = static_cast<int>(a.group);
  const int64_t size = kVectors * (static_cast<int64_t>(d) + 2);
  for (int i = threadIdx.x; i < tile.vectors * d; i += blockDim.x) {
    const int vec = i / d;
    const int column = i % d;
    float max = -INFINITY;
    float sum = 0;
    float out = 0;
    for (int p = 0; p < merge.parts; ++p) {
      const float* part = a.partials + (static_cast<int64_t>(merge.part + p) * a.kv_heads + kv_head) * size;
      const float part_sum = part[kVectors + vec];
      if (part_sum == 0.0F) continue;
      const MergeScales s = ScalesOf(max, part[vec]);
      sum = Merged(sum, s, part_sum);
      out = Merged(out, s, part[2 * kVectors + vec * d + column]);
      max = s.max;
    }
    const int flat = tile.first + vec;
    const int64_t head = kv_head * group + flat % group;
    a.out[tile.out + flat / group * a.out_row + head * d + column] = out * (1.0F / sum);
  }
}

template <typename T, int kDim>
cudaError_t Run(cudaStream_t stream, const AttentionLaunch& a) {
  const Layout<T> layout(static_cast<int>(a.d));
  constexpr int64_t kWide = 16 / sizeof(T);
  const bool vectors = a.d % kWide == 0 && Aligned16(a.k) && Aligned16(a.v) &&
                       (a.blocks != nullptr || (a.k_row % kWide == 0 && a.k_head % kWide == 0 &&
                                                a.v_row % kWide == 0 && a.v_head % kWide == 0));
  cudaError_t error =
      cudaFuncSetAttribute(reinterpret_cast<const void*>(&AttentionKernel<T, kDim>),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(layout.bytes()));
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(a.tile_count), static_cast<unsigned>(a.kv_heads));
  error = LaunchKernel(stream, {grid, kThreads, layout.bytes()}, AttentionKernel<T, kDim>, a, vectors);
  if (error != cudaSuccess || a.merge_count == 0) return error;
  const dim3 merges(static_cast<unsigned>(a.merge_count), static_cast<unsigned>(a.kv_heads));
  return LaunchKernel(stream, {merges, kThreads}, MergeKernel, a);
}

template <typename T>
cudaError_t RunFor(cudaStream_t stream, const AttentionLaunch& a) {
  if (a.d <= 64) return Run<T, 64>(stream, a);
  if (a.d <= 128) return Run<T, 128>(stream, a);
  return Run<T, 256>(stream, a);
}

}  // namespace

cudaError_t Attention(cudaStream_t stream, const AttentionLaunch& a) {
  if (a.tile_count == 0 || a.kv_heads == 0 || a.d == 0) return cudaSuccess;
  return a.kv_type == Element::kBF16 ? RunFor<__nv_bfloat16>(stream, a) : RunFor<float>(stream, a);
}

}  // namespace fulger::cuda
