// What a sequence holds on this rank, KV blocks and lightning states, as one run of bytes: for files that
// outlive the process. Threads: the rank's executor only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/status.h"
#include "kernels/device/device.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/lightning_states.h"

namespace fulger {

// The parts of a slot and of blocks, each contiguous on the device, always in the same order: of every
// softmax layer the blocks' keys and then their values, then every lightning layer's state. INVALID_ARGUMENT:
// an id that this rank does not have.
class StateParts {
 public:
  static absl::StatusOr<StateParts> Of(const KvCache& kv, const LightningStates& states, int32_t slot,
                                       std::span<const int32_t> blocks);

  int64_t bytes() const { return bytes_; }
  // Hands the bytes to `sink`, piece by piece through host memory of at most `piece` bytes; its error ends
  // it.
  using Sink = std::function<absl::Status(std::span<const std::byte> piece)>;
  absl::Status CopyOut(Device& device, size_t piece, const Sink& sink) const;
  // `host` has bytes() of them.
  absl::Status CopyIn(Device& device, std::span<const std::byte> host) const;

 private:
  std::vector<MutTensorView> parts_;
  int64_t bytes_ = 0;
};

}  // namespace fulger
