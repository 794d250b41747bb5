#include "tests/cuda_emulation/faulty_kernels.h"

#include <mma.h>

#include "kernels/cuda/launch_kernel.cuh"

namespace fulger::cuda_emulation {
namespace {

using cuda::LaunchKernel;

__global__ void ReverseKernel(Fault fault, int32_t* out) {
  auto* shared = cuda::DynamicShared<int32_t>();
  static __shared__ float4 vectors[2];
  static __shared__ int32_t few[4];
  const int i = threadIdx.x;
  const int lane = i % 32;
  shared[i] = i;
  if (fault == Fault::kEarlyReturn && i >= 48) return;
  if (fault == Fault::kTwoBarriers) {
    if (i < 32) {
      __syncthreads();
    } else {
      __syncthreads();
    }
  } else if (fault != Fault::kNoBarrier) {
    __syncthreads();
  }
  int value = shared[kThreads - 1 - i];
  if (fault == Fault::kLaneReturned && lane == 7) return;
  if (fault == Fault::kLaneElsewhere) {
    if (lane < 16) value = __shfl_xor_sync(0xffffffffU, value, 1);
  } else if (fault != Fault::kNone && fault != Fault::kNoWarpBarrier) {
    value = __shfl_xor_sync(0xffffffffU, __shfl_xor_sync(0xffffffffU, value, 5), 5);
    // Each half of a warp may well meet by itself.
    const unsigned half = lane < 16 ? 0xffffU : 0xffff0000U;
    if (__ballot_sync(half, 1) != half) value = -2;
  } else {
    // There and back between neighbours.
    __syncthreads();
    shared[i] = value;
    if (fault == Fault::kNone) __syncwarp();
    value = shared[i ^ 1];
    __syncwarp();
    shared[i] = value;
    __syncwarp();
    value = shared[i ^ 1];
  }
  if (fault == Fault::kSharedOverrun && i == 0) shared[kSharedInts] = 1;
  if (fault == Fault::kGlobalOverrun && i == 0) out[kThreads] = 1;
  if (fault == Fault::kFarOverrun && i == 33) value = out[kThreads + kFar];
  if (fault == Fault::kIndex) value = few[i];
  if (fault == Fault::kMisaligned && i == 0) {
    auto* p = reinterpret_cast<char*>(vectors) + 4;
    *reinterpret_cast<float4*>(p) = make_float4(0, 0, 0, 0);
  }
  out[i] = value;
}

__global__ void OrderKernel(int32_t* order, int32_t* place) { order[(*place)++] = threadIdx.x; }

__global__ void TileKernel(Fault fault, const __nv_bfloat16* a, const __nv_bfloat16* b, float* out) {
  namespace wmma = nvcuda::wmma;
  wmma::fragment<wmma::matrix_a, 16, 16, 16, __nv_bfloat16, wmma::row_major> fa;
  wmma::fragment<wmma::matrix_b, 16, 16, 16, __nv_bfloat16, wmma::row_major> fb;
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
  wmma::fill_fragment(sum, 0.0F);
  wmma::load_matrix_sync(fa, fault == Fault::kMisalignedTile ? a + 1 : a, 16);
  wmma::load_matrix_sync(fb, b, 16);
  wmma::mma_sync(sum, fa, fb, sum);
  wmma::store_matrix_sync(out, sum, 16, wmma::mem_row_major);
}

__global__ void EmptyKernel() {}

}  // namespace

cudaError_t Reverse(cudaStream_t stream, Fault fault, int32_t* out) {
  return LaunchKernel(stream, {1, kThreads, kSharedInts * sizeof(int32_t)}, ReverseKernel, fault, out);
}
cudaError_t RecordOrder(cudaStream_t stream, int32_t* order, int32_t* place) {
  return LaunchKernel(stream, {1, 32}, OrderKernel, order, place);
}
cudaError_t TileProduct(cudaStream_t stream, Fault fault, const uint16_t* a, const uint16_t* b, float* out) {
  return LaunchKernel(stream, {1, 32}, TileKernel, fault, reinterpret_cast<const __nv_bfloat16*>(a),
                      reinterpret_cast<const __nv_bfloat16*>(b), out);
}
cudaError_t Empty(cudaStream_t stream, unsigned blocks, unsigned threads, size_t shared) {
  return LaunchKernel(stream, {blocks, threads, shared}, EmptyKernel);
}
cudaError_t AllowShared(int bytes) {
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(&EmptyKernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

}  // namespace fulger::cuda_emulation
