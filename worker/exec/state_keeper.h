// Sequences of this rank on their way into a file, when the job ends, and out of it, in the next one: read
// and checked first into host memory, so that the plan that restores one cannot fail for want of it. Threads:
// the rank's executor only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "fulger/v1/control.pb.h"
#include "kernels/device/device.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/lightning_states.h"

namespace fulger {

class StateKeeper {
 public:
  // All outlive it.
  StateKeeper(Device* device, KvCache* kv, LightningStates* states, int rank)
      : device_(device), kv_(kv), states_(states), rank_(rank) {}

  // Writes a new file with the wanted sequences in their order, as long as there is time; logs how it goes.
  // What is told as saved is on disk.
  v1::StatesSaved Save(const v1::SaveStates& wanted, const std::string& path);
  // DATA_LOSS: the file does not hold what the state says, or that is not of this rank's shapes.
  absl::Status Fetch(const v1::SavedState& state, const std::string& path);
  // What was fetched goes into the slot and the first blocks, and is forgotten.
  absl::Status Restore(uint64_t id, int32_t slot, std::span<const int32_t> blocks);
  void Drop(uint64_t id) { fetched_.erase(id); }

 private:
  struct Fetched {
    int64_t blocks = 0;
    std::vector<std::byte> bytes;
  };

  Device* const device_;
  KvCache* const kv_;
  LightningStates* const states_;
  const int rank_;
  std::unordered_map<uint64_t, Fetched> fetched_;
};

}  // namespace fulger
