// The consecutive decoder layers of one stage, post-norm: the residual of each half is the normed tensor, so
// the un-normed stream lives only between one branch's sum and the next norm, and those two are one op.
//
//   x0 = RMSNorm(h);  h1 = a*x0 + b*attn(x0);  x1 = RMSNorm(h1);  h = a*x1 + b*moe(x1)
#pragma once

#include <cstdint>
#include <variant>
#include <vector>

#include "model/layout.h"
#include "worker/cache/kv_cache.h"
#include "worker/cache/lightning_states.h"
#include "worker/layers/context.h"
#include "worker/layers/lightning_attention.h"
#include "worker/layers/moe.h"
#include "worker/layers/softmax_attention.h"
#include "worker/layers/weight_lookup.h"

namespace fulger {

class DecoderStack {
 public:
  static absl::StatusOr<DecoderStack> Make(const ModelConfig& config, const RankPlan& rank,
                                           const WeightLookup& weights, const KvCache& kv,
                                           const LightningStates& states, Device& device);

  // h f32 [T, hidden], overwritten: the stream entering the first layer becomes the stream leaving the last
  // one, or, on the last stage, the output of the final norm.
  absl::Status Forward(ExecContext& ctx, const BatchRows& rows, const MutTensorView& h) const;

 private:
  struct Layer {
    int64_t index = 0;
    std::variant<LightningAttentionLayer, SoftmaxAttentionLayer> attention;
    MoeLayer moe;
    ResidualScale attention_residual;
    TensorView input_norm, post_norm;
  };

  float eps_ = 1e-5F;
  ResidualScale mlp_residual_;
  std::vector<Layer> layers_;
  TensorView final_norm_;  // last stage only
};

}  // namespace fulger
