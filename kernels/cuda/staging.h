// Host to device through pinned memory: the caller's bytes are taken at once, the copy runs on the stream. A
// ring of slots, each reused when the copies out of it are done. One thread.
#pragma once

#include <array>
#include <cstddef>

#include "kernels/cuda/cuda_handles.h"

namespace fulger::cuda {

class Staging {
 public:
  static absl::StatusOr<Staging> Make();
  // `host` may be reused when this returns.
  absl::Status Upload(cudaStream_t stream, const void* host, void* device, size_t bytes);

 private:
  static constexpr size_t kSlots = 4;
  static constexpr size_t kSlotBytes = size_t{2} << 20;

  UniquePinned memory_;
  std::array<UniqueEvent, kSlots> done_;  // of the copies out of a slot
  size_t slot_ = 0;
  size_t used_ = 0;  // of the current slot
};

}  // namespace fulger::cuda
