// Owners of the runtime's objects. Their destructors ignore errors: what failed before has been reported, and
// a context that is lost frees nothing.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "base/status.h"
#include "kernels/cuda/cuda_error.h"

namespace fulger::cuda {

struct StreamDestroyer {
  void operator()(cudaStream_t s) const { static_cast<void>(cudaStreamDestroy(s)); }
};
struct EventDestroyer {
  void operator()(cudaEvent_t e) const { static_cast<void>(cudaEventDestroy(e)); }
};
struct PinnedFree {
  void operator()(void* p) const { static_cast<void>(cudaFreeHost(p)); }
};
struct DeviceFree {
  void operator()(void* p) const { static_cast<void>(cudaFree(p)); }
};
using UniqueStream = std::unique_ptr<CUstream_st, StreamDestroyer>;
using UniqueEvent = std::unique_ptr<CUevent_st, EventDestroyer>;
using UniquePinned = std::unique_ptr<void, PinnedFree>;
using UniqueDeviceMemory = std::unique_ptr<void, DeviceFree>;

inline absl::StatusOr<UniqueStream> MakeStream() {
  cudaStream_t stream = nullptr;
  CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return UniqueStream(stream);
}
inline absl::StatusOr<UniqueEvent> MakeEvent() {
  cudaEvent_t event = nullptr;
  CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return UniqueEvent(event);
}
inline absl::StatusOr<UniquePinned> MakePinned(size_t bytes) {
  void* p = nullptr;
  CUDA_RETURN_IF_ERROR(cudaHostAlloc(&p, bytes, cudaHostAllocDefault));
  return UniquePinned(p);
}
inline absl::StatusOr<UniqueDeviceMemory> MakeDeviceMemory(size_t bytes) {
  void* p = nullptr;
  CUDA_RETURN_IF_ERROR(cudaMalloc(&p, bytes));
  return UniqueDeviceMemory(p);
}

}  // namespace fulger::cuda
