// The tensors of one NCCL operation: device memory is used in place, host memory passes through the rank's
// staging. Private to the nccl_*.cc files.
#pragma once

#include <cuda_runtime.h>

#include <utility>

#include "worker/comm/nccl_state.h"

namespace fulger {

// True for memory that a GPU owns.
inline bool OnGpu(const void* p) {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, p) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  return attributes.type == cudaMemoryTypeDevice || attributes.type == cudaMemoryTypeManaged;
}

class NcclTensors {
 public:
  NcclTensors(NcclState& state, const Where& where, cudaStream_t stream)
      : state_(state), where_(where), stream_(stream) {}

  cudaStream_t stream() const { return stream_; }

  // Where NCCL reads and writes `data`.
  absl::StatusOr<void*> InOut(const MutTensorView& data) {
    RETURN_IF_ERROR(state_.Check(where_));
    RETURN_IF_ERROR(state_.Enter());
    if (OnGpu(data.raw())) return data.mut_raw();
    const auto bytes = static_cast<size_t>(data.bytes());
    ASSIGN_OR_RETURN(void* const staging, state_.HostStaging(stream_, bytes));
    NCCL_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(staging, data.raw(), bytes, cudaMemcpyHostToDevice, stream_));
    back_ = {data.mut_raw(), staging, bytes};
    return staging;
  }

  // Where NCCL reads `in` and writes `out`; both on the same side.
  absl::StatusOr<std::pair<const void*, void*>> InAndOut(const TensorView& in, const MutTensorView& out) {
    RETURN_IF_ERROR(state_.Check(where_));
    RETURN_IF_ERROR(state_.Enter());
    if (OnGpu(out.raw()) && OnGpu(in.raw())) return std::pair(in.raw(), out.mut_raw());
    const auto in_bytes = static_cast<size_t>(in.bytes());
    const auto out_bytes = static_cast<size_t>(out.bytes());
    ASSIGN_OR_RETURN(void* const staging, state_.HostStaging(stream_, in_bytes + out_bytes));
    char* const from = static_cast<char*>(staging) + out_bytes;
    NCCL_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(from, in.raw(), in_bytes, cudaMemcpyDefault, stream_));
    back_ = {out.mut_raw(), staging, out_bytes};
    return std::pair(static_cast<const void*>(from), staging);
  }

  // The watchdog follows the operation; host tensors are waited for and copied back.
  absl::Status Finish(size_t handle) {
    RETURN_IF_ERROR(state_.Track(where_, handle, stream_));
    if (back_.to == nullptr) return absl::OkStatus();
    RETURN_IF_ERROR(state_.Wait(where_, stream_));
    NCCL_CUDA_RETURN_IF_ERROR(cudaMemcpyAsync(back_.to, back_.from, back_.bytes, cudaMemcpyDefault, stream_));
    return CudaStatus(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

 private:
  struct Back {
    void* to = nullptr;
    const void* from = nullptr;
    size_t bytes = 0;
  };
  NcclState& state_;
  const Where where_;
  const cudaStream_t stream_;
  Back back_;
};

}  // namespace fulger
