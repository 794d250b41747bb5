// Lightning states of a rank: one slot per sequence, float32, in every lightning layer of the rank.
// The coordinator owns slot ids, this owns the bytes. Threads: the rank's executor only.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "kernels/device/device.h"
#include "model/config.h"
#include "model/layout.h"

namespace fulger {

class LightningStates {
 public:
  // One tensor [slots, heads, head_dim (key), head_dim (value)] per lightning layer of the rank, zeroed.
  static absl::StatusOr<LightningStates> Make(const ModelConfig& config, const RankPlan& rank, Device& device,
                                              int64_t slots);

  int64_t slots() const { return slots_; }
  int64_t bytes() const;
  // `layer` is global and must be a lightning layer of this rank.
  const MutTensorView& states(int64_t layer) const;
  absl::Status ZeroSlot(Device& device, int32_t slot);
  absl::Status CopySlot(Device& device, int32_t from, int32_t to);
  // The slot's states, layer by layer, each view contiguous.
  absl::Status AppendParts(int32_t slot, std::vector<MutTensorView>* parts) const;

 private:
  absl::Status CheckSlot(const char* what, int32_t slot) const;

  struct Layer {
    Buffer buffer;
    MutTensorView states;
  };
  int64_t slots_ = 0;
  int64_t first_layer_ = 0;
  std::vector<Layer> layers_;  // by layer - first_layer_; softmax layers hold nothing
};

}  // namespace fulger
