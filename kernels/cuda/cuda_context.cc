#include "kernels/cuda/cuda_context.h"

namespace fulger::cuda {

absl::Status DeviceScratch::Grow(cudaStream_t stream, size_t bytes) {
  bytes = (bytes + bytes / 4 + 255) / 256 * 256;
  CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream));
  memory_.reset();
  bytes_ = 0;
  auto memory = MakeDeviceMemory(bytes);
  if (!memory.ok()) return Annotate(memory.status(), fmt::format("{} bytes of op scratch", bytes));
  memory_ = std::move(memory).value();
  bytes_ = bytes;
  return absl::OkStatus();
}

absl::StatusOr<const void*> DeviceTable::PutBytes(cudaStream_t stream, Staging& staging, const void* data,
                                                  size_t bytes) {
  // Asked for first: growing forgets the content, so `held_` must not claim it.
  if (bytes > held_.size()) held_.clear();
  ASSIGN_OR_RETURN(char* const device, memory_.Get<char>(stream, static_cast<int64_t>(bytes)));
  const bool same = bytes > 0 && bytes == held_.size() && std::memcmp(held_.data(), data, bytes) == 0;
  if (!same && bytes > 0) {
    held_.clear();
    RETURN_IF_ERROR(staging.Upload(stream, data, device, bytes));
    held_.assign(static_cast<const char*>(data), static_cast<const char*>(data) + bytes);
  }
  return device;
}

absl::Status CudaContext::TakeFault() {
  if (!may_fault) return absl::OkStatus();
  may_fault = false;
  Fault found;
  CUDA_RETURN_IF_ERROR(
      cudaMemcpyAsync(&found, fault.get(), sizeof(found), cudaMemcpyDeviceToHost, stream.get()));
  CUDA_RETURN_IF_ERROR(cudaStreamSynchronize(stream.get()));
  if (found.code == Fault::kNone) return absl::OkStatus();
  CUDA_RETURN_IF_ERROR(cudaMemsetAsync(fault.get(), 0, sizeof(found), stream.get()));
  return InvalidArgument("{}: index[{}] = {} is outside [{}, {})",
                         found.code == Fault::kGather ? "GatherRows" : "ScatterRows", found.at, found.value,
                         found.low, found.high);
}

}  // namespace fulger::cuda
