#include "worker/layers/moe.h"

namespace fulger {

absl::StatusOr<MoeLayer> MoeLayer::Make(const ModelConfig& config, const RankPlan& rank, int64_t layer,
                                        const WeightLookup& weights) {
  MoeLayer result;
  result.layer_ = layer;
  result.first_expert_ = rank.experts.begin;
  result.experts_per_token_ = config.text.experts_per_token;
  ASSIGN_OR_RETURN(result.router_, weights.Text(layer, "block_sparse_moe.gate.weight"));
  ASSIGN_OR_RETURN(const ExpertWeights experts, weights.store().Experts(layer));
  result.w1_ = experts.w1;
  result.w3_ = experts.w3;
  result.w2_ = experts.w2;
  return result;
}

absl::StatusOr<MutTensorView> MoeLayer::Forward(ExecContext& ctx, const BatchRows& rows,
                                                const TensorView& x) const {
  ctx.activity.Set("experts", layer_);
  ASSIGN_OR_RETURN(MutTensorView out, ctx.arena.Allocate(DType::kF32, {rows.count, x.dim(1)}));
  const size_t mark = ctx.arena.used();
  ASSIGN_OR_RETURN(MutTensorView ids, ctx.arena.Allocate(DType::kI32, {rows.count, experts_per_token_}));
  ASSIGN_OR_RETURN(MutTensorView mix, ctx.arena.Allocate(DType::kF32, {rows.count, experts_per_token_}));
  RETURN_IF_ERROR(ctx.ops.Router(ctx.stream, {.x = x, .gate = router_, .ids = ids, .weights = mix}));
  RETURN_IF_ERROR(ctx.ops.Moe(ctx.stream, {.x = x,
                                           .ids = ids,
                                           .weights = mix,
                                           .w1 = w1_,
                                           .w3 = w3_,
                                           .w2 = w2_,
                                           .first_expert = first_expert_,
                                           .out = out}));
  if (ctx.stage.size() > 1) {
    ctx.activity.Set("all-reduce after experts", layer_);
    RETURN_IF_ERROR(ctx.stage.AllReduceSum(ctx.stream, out.Reshape({out.elements()})));
  }
  ctx.arena.Rewind(mark);
  return out;
}

}  // namespace fulger
