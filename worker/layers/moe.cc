#include "worker/layers/moe.h"

namespace fulger {

namespace {

void CountRows(const BatchRows& rows, const TensorView& ids, ExpertRows* counts) {
  const int64_t per_row = ids.dim(1);
  const int32_t* id = ids.data<int32_t>();
  const int32_t* health = rows.health.data<int32_t>();
  for (int64_t row = 0; row < rows.count; ++row, id += per_row) {
    if (health[row] == kDeadRow) continue;
    for (int64_t i = 0; i < per_row; ++i) ++(*counts)[static_cast<size_t>(id[i])];
  }
}

}  // namespace

absl::StatusOr<MoeLayer> MoeLayer::Make(const ModelConfig& config, const RankPlan& rank, int64_t layer,
                                        const WeightLookup& weights) {
  MoeLayer result;
  result.layer_ = layer;
  result.first_expert_ = rank.experts.begin;
  result.experts_per_token_ = config.text.experts_per_token;
  ASSIGN_OR_RETURN(result.router_, weights.Text(layer, "block_sparse_moe.gate.weight"));
  ASSIGN_OR_RETURN(result.experts_, weights.store().Experts(layer));
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
  if (ctx.expert_rows != nullptr) CountRows(rows, ids, ctx.expert_rows);
  RETURN_IF_ERROR(ctx.ops.Moe(ctx.stream, {.x = x,
                                           .ids = ids,
                                           .weights = mix,
                                           .w1 = experts_.w1,
                                           .w3 = experts_.w3,
                                           .w2 = experts_.w2,
                                           .w1_scale = experts_.w1_scale,
                                           .w3_scale = experts_.w3_scale,
                                           .w2_scale = experts_.w2_scale,
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
