// The mixture of experts of a layer on one rank: every rank routes alike, computes its experts' columns, and
// the stage sums. No all-to-all.
#pragma once

#include "model/layout.h"
#include "worker/layers/context.h"
#include "worker/layers/weight_lookup.h"

namespace fulger {

class MoeLayer {
 public:
  static absl::StatusOr<MoeLayer> Make(const ModelConfig& config, const RankPlan& rank, int64_t layer,
                                       const WeightLookup& weights);

  // x f32 [T, hidden] (normed) -> f32 [T, hidden] in the arena, the same bits on every rank of the stage.
  absl::StatusOr<MutTensorView> Forward(ExecContext& ctx, const BatchRows& rows, const TensorView& x) const;

 private:
  int64_t layer_ = 0;
  int64_t first_expert_ = 0;
  int64_t experts_per_token_ = 0;
  TensorView router_;
  ExpertWeights experts_;
};

}  // namespace fulger
