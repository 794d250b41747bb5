// Kernels that do one thing wrong, and what they would be without it: the emulation must see the difference.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace fulger::cuda_emulation {

enum class Fault {
  kNone,
  kNoBarrier,       // shared memory is read before another warp has written it
  kNoWarpBarrier,   // or another lane
  kEarlyReturn,     // some threads return before a barrier
  kTwoBarriers,     // the halves of a block wait at different ones
  kLaneReturned,    // a shuffle of all lanes after some have returned
  kLaneElsewhere,   // a shuffle of all lanes in a branch of some
  kSharedOverrun,   // a write behind the dynamic shared memory
  kGlobalOverrun,   // a write just behind the output
  kFarOverrun,      // a read far behind the output
  kMisaligned,      // a float4 at a multiple of 4 bytes
  kIndex,           // an index past a shared array
  kMisalignedTile,  // a tensor-core tile at a multiple of 2 bytes
};

constexpr int kThreads = 64;
constexpr int kSharedInts = kThreads;
#if defined(__SANITIZE_ADDRESS__)
constexpr int kFar = 4;  // what the sanitizer watches behind an allocation is not much
#else
constexpr int kFar = 50000;
#endif

// out[i] = n - 1 - i for n = kThreads, by way of shared memory; null: the device's memory was not handed over
cudaError_t Reverse(cudaStream_t stream, Fault fault, int32_t* out);
// order[place] = thread, in the order in which the threads of one warp run
cudaError_t RecordOrder(cudaStream_t stream, int32_t* order, int32_t* place);
// out = a b for row-major 16 x 16 bfloat16, float32 sums
cudaError_t TileProduct(cudaStream_t stream, Fault fault, const uint16_t* a, const uint16_t* b, float* out);
cudaError_t Empty(cudaStream_t stream, unsigned blocks, unsigned threads, size_t shared);
cudaError_t AllowShared(int bytes);  // for Empty

}  // namespace fulger::cuda_emulation
