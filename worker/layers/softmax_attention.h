// The attention of a softmax layer on one rank: its heads' part, all-reduced over the stage.
#pragma once

#include <vector>

#include "model/layout.h"
#include "worker/layers/context.h"
#include "worker/layers/weight_lookup.h"

namespace fulger {

class SoftmaxAttentionLayer {
 public:
  static absl::StatusOr<SoftmaxAttentionLayer> Make(const ModelConfig& config, const RankPlan& rank,
                                                    int64_t layer, const WeightLookup& weights,
                                                    MutTensorView keys, MutTensorView values);

  // x f32 [T, hidden] (normed) -> f32 [T, hidden] in the arena, the same bits on every rank of the stage.
  // Writes the rows' keys and values into their blocks.
  absl::StatusOr<MutTensorView> Forward(ExecContext& ctx, const BatchRows& rows, const TensorView& x) const;

 private:
  int64_t layer_ = 0;
  int64_t heads_ = 0;     // of this rank
  int64_t kv_heads_ = 0;  // of this rank
  int64_t head_dim_ = 0;
  std::vector<float> inv_freq_;
  WeightMatrix q_, k_, v_, out_;
  MutTensorView keys_, values_;
};

}  // namespace fulger
