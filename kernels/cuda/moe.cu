// Mixture of experts around the products: who goes where, and the weighted sum at the end. Pairs of one
// expert are in the order of their tokens, so results do not depend on timing.
#include "kernels/cuda/device_math.cuh"

namespace fulger::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kIndexThreads = 1024;

// One block: counting sort of the choices by expert. Each warp takes experts in turn and walks all choices.
__global__ void __launch_bounds__(kIndexThreads) MoeIndexKernel(MoeIndexLaunch a) {
  auto* shared = DynamicShared<int32_t>();
  const auto experts = static_cast<int32_t>(a.experts);
  int32_t* count = shared;                // [experts]
  int32_t* first = count + experts;       // [experts]
  int32_t* first_tile = first + experts;  // [experts]
  const auto n = static_cast<int32_t>(a.tokens * a.k);
  const auto base = static_cast<int32_t>(a.first_expert);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const uint32_t lanes_below = (1U << lane) - 1U;

  for (int32_t e = warp; e < experts; e += kIndexThreads / 32) {
    int32_t found = 0;
    for (int32_t i0 = 0; i0 < n; i0 += 32) {
      const int32_t i = i0 + lane;
      found += __popc(__ballot_sync(0xffffffffU, i < n && a.ids[i] - base == e));
    }
    if (lane == 0) count[e] = found;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    int32_t pairs = 0;
    int32_t tiles = 0;
    for (int32_t e = 0; e < experts; ++e) {
      first[e] = pairs;
      a.first[e] = pairs;
      first_tile[e] = tiles;
      pairs += count[e];
      tiles += (count[e] + kGroupTileRows - 1) / kGroupTileRows;
    }
    a.first[experts] = pairs;
    *a.tile_count = tiles;
  }
  __syncthreads();
  for (int32_t i = threadIdx.x; i < n; i += kIndexThreads) {
    const int32_t e = a.ids[i] - base;
    if (e < 0 || e >= experts) a.pair_of[i] = -1;
  }
  for (int32_t e = warp; e < experts; e += kIndexThreads / 32) {
    int32_t next = first[e];
    for (int32_t i0 = 0; i0 < n; i0 += 32) {
      const int32_t i = i0 + lane;
      const bool mine = i < n && a.ids[i] - base == e;
      const uint32_t all = __ballot_sync(0xffffffffU, mine);
      if (mine) {
        const int32_t pair = next + __popc(all & lanes_below);
        a.pair_of[i] = pair;
        a.token[pair] = i / static_cast<int32_t>(a.k);
      }
      next += __popc(all);
    }
    for (int32_t t = lane; t * kGroupTileRows < count[e]; t += 32) {
      const int32_t at = t * kGroupTileRows;
      a.tiles[first_tile[e] + t] = {e, first[e] + at, min(kGroupTileRows, count[e] - at)};
    }
  }
}

__global__ void SiluMulKernel(float* gate, const float* up, const int32_t* pairs, int64_t width) {
  const int64_t row = blockIdx.x;
  if (row >= *pairs) return;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    gate[row * width + i] = Silu(gate[row * width + i]) * up[row * width + i];
  }
}

__global__ void CombineKernel(const float* down, const int32_t* pair_of, const float* weights, int64_t k,
                              MutRows out, int64_t width) {
  const int64_t t = blockIdx.x;
  const int32_t* pairs = pair_of + t * k;
  for (int64_t i = threadIdx.x; i < width; i += kThreads) {
    float sum = 0;
    int32_t last = -1;
    for (int64_t round = 0; round < k; ++round) {
      int64_t next = -1;  // pairs of a token in ascending order are its experts in ascending order
      for (int64_t j = 0; j < k; ++j) {
        if (pairs[j] > last && (next < 0 || pairs[j] < pairs[next])) next = j;
      }
      if (next < 0) break;
      last = pairs[next];
      sum = fmaf(weights[t * k + next], down[last * width + i], sum);
    }
    out.p[t * out.ld + i] = sum;
  }
}

}  // namespace

cudaError_t MoeIndex(cudaStream_t stream, const MoeIndexLaunch& a) {
  const size_t shared = static_cast<size_t>(3 * a.experts) * sizeof(int32_t);
  return LaunchKernel(stream, {1, kIndexThreads, shared}, MoeIndexKernel, a);
}

cudaError_t SiluMul(cudaStream_t stream, float* gate, const float* up, const int32_t* pairs,
                    int64_t max_pairs, int64_t width) {
  if (max_pairs == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(max_pairs), kThreads}, SiluMulKernel, gate, up, pairs,
                      width);
}

cudaError_t MoeCombine(cudaStream_t stream, const float* down, const int32_t* pair_of, const float* weights,
                       int64_t k, MutRows out, int64_t tokens, int64_t width) {
  if (tokens == 0 || width == 0) return cudaSuccess;
  return LaunchKernel(stream, {static_cast<unsigned>(tokens), kThreads}, CombineKernel, down, pair_of,
                      weights, k, out, width);
}

}  // namespace fulger::cuda
