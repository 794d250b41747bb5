// The attention of a lightning layer on one rank: its heads' part, all-reduced over the stage.
#pragma once

#include "model/layout.h"
#include "worker/layers/context.h"
#include "worker/layers/weight_lookup.h"

namespace fulger {

class LightningAttentionLayer {
 public:
  static absl::StatusOr<LightningAttentionLayer> Make(const ModelConfig& config, const RankPlan& rank,
                                                      int64_t layer, const WeightLookup& weights,
                                                      MutTensorView states, Device& device);

  // x f32 [T, hidden] (normed) -> f32 [T, hidden] in the arena, the same bits on every rank of the stage.
  // Updates the states of the batch's slots.
  absl::StatusOr<MutTensorView> Forward(ExecContext& ctx, const BatchRows& rows, const TensorView& x) const;

 private:
  int64_t layer_ = 0;
  int64_t heads_ = 0;  // of this rank
  int64_t head_dim_ = 0;
  int64_t inner_width_ = 0;  // of all ranks: the norm's width
  int64_t block_ = 0;
  float norm_eps_ = 0;
  Buffer slope_memory_;
  TensorView slopes_;  // f32 [heads], on the device
  WeightMatrix qkv_, gate_, out_;
  TensorView norm_;
  MutTensorView states_;
};

}  // namespace fulger
