#include "kernels/cuda/staging.h"

#include <algorithm>
#include <cstring>

namespace fulger::cuda {

absl::StatusOr<Staging> Staging::Make() {
  Staging staging;
  ASSIGN_OR_RETURN(staging.memory_, MakePinned(kSlots * kSlotBytes));
  for (UniqueEvent& event : staging.done_) {
    ASSIGN_OR_RETURN(event, MakeEvent());  // not recorded yet: waiting for it returns at once
  }
  return staging;
}

absl::Status Staging::Upload(cudaStream_t stream, const void* host, void* device, size_t bytes) {
  constexpr size_t kAlignment = 64;
  size_t done = 0;
  while (done < bytes) {
    if (used_ == kSlotBytes || (used_ > 0 && bytes - done > kSlotBytes - used_)) {
      CUDA_RETURN_IF_ERROR(cudaEventRecord(done_[slot_].get(), stream));
      slot_ = (slot_ + 1) % kSlots;
      used_ = 0;
      CUDA_RETURN_IF_ERROR(cudaEventSynchronize(done_[slot_].get()));
    }
    const size_t part = std::min(bytes - done, kSlotBytes - used_);
    char* pinned = static_cast<char*>(memory_.get()) + slot_ * kSlotBytes + used_;
    std::memcpy(pinned, static_cast<const char*>(host) + done, part);
    CUDA_RETURN_IF_ERROR(
        cudaMemcpyAsync(static_cast<char*>(device) + done, pinned, part, cudaMemcpyHostToDevice, stream));
    done += part;
    used_ = std::min(kSlotBytes, (used_ + part + kAlignment - 1) / kAlignment * kAlignment);
  }
  return absl::OkStatus();
}

}  // namespace fulger::cuda
