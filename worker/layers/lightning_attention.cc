#include "worker/layers/lightning_attention.h"

#include <vector>

namespace fulger {

absl::StatusOr<LightningAttentionLayer> LightningAttentionLayer::Make(const ModelConfig& config,
                                                                      const RankPlan& rank, int64_t layer,
                                                                      const WeightLookup& weights,
                                                                      MutTensorView states, Device& device) {
  LightningAttentionLayer result;
  result.layer_ = layer;
  result.heads_ = rank.query_heads.size();
  result.head_dim_ = config.text.head_dim;
  result.inner_width_ = config.text.inner();
  result.block_ = config.text.block_size;
  result.norm_eps_ = static_cast<float>(config.text.lightning_norm_eps);
  std::vector<float> slopes;
  for (int64_t h = rank.query_heads.begin; h < rank.query_heads.end; ++h) {
    slopes.push_back(LightningSlope(config.text, layer, h));
  }
  ASSIGN_OR_RETURN(result.slope_memory_, device.Allocate(slopes.size() * sizeof(float)));
  RETURN_IF_ERROR(device.CopyToDevice(device.stream(), slopes.data(), result.slope_memory_.data(),
                                      slopes.size() * sizeof(float)));
  result.slopes_ = TensorView(result.slope_memory_.data(), DType::kF32, {result.heads_});
  ASSIGN_OR_RETURN(result.qkv_, weights.Matrix(layer, "self_attn.qkv_proj.weight"));
  ASSIGN_OR_RETURN(result.gate_, weights.Matrix(layer, "self_attn.output_gate.weight"));
  ASSIGN_OR_RETURN(result.norm_, weights.Text(layer, "self_attn.norm.weight"));
  ASSIGN_OR_RETURN(result.out_, weights.Matrix(layer, "self_attn.out_proj.weight"));
  result.states_ = states;
  return result;
}

absl::StatusOr<MutTensorView> LightningAttentionLayer::Forward(ExecContext& ctx, const BatchRows& rows,
                                                               const TensorView& x) const {
  const int64_t t = rows.count;
  const int64_t hidden = x.dim(1);
  const int64_t inner = heads_ * head_dim_;
  // One buffer for the partial output and the partial sums of squares: one all-reduce carries both.
  ASSIGN_OR_RETURN(MutTensorView joined, ctx.arena.Allocate(DType::kF32, {t * (hidden + 1)}));
  const MutTensorView out = joined.Rows(0, t * hidden).Reshape({t, hidden});
  const MutTensorView sumsq = joined.Rows(t * hidden, t);
  const size_t mark = ctx.arena.used();

  ctx.activity.Set("lightning attention", layer_);
  ASSIGN_OR_RETURN(MutTensorView qkv, ctx.arena.Allocate(DType::kF32, {t, 3 * inner}));
  ASSIGN_OR_RETURN(MutTensorView gate, ctx.arena.Allocate(DType::kF32, {t, inner}));
  ASSIGN_OR_RETURN(MutTensorView o, ctx.arena.Allocate(DType::kF32, {t, inner}));
  RETURN_IF_ERROR(
      ctx.ops.Linear(ctx.stream, {.x = x, .w = qkv_.w, .w_scale = qkv_.scale, .bias = {}, .out = qkv}));
  RETURN_IF_ERROR(
      ctx.ops.Linear(ctx.stream, {.x = x, .w = gate_.w, .w_scale = gate_.scale, .bias = {}, .out = gate}));
  RETURN_IF_ERROR(ctx.ops.Lightning(ctx.stream, {.qkv = qkv.Reshape({t, heads_, 3 * head_dim_}),
                                                 .slopes = slopes_,
                                                 .segments = rows.lightning,
                                                 .states = states_,
                                                 .out = o,
                                                 .block = block_}));
  RETURN_IF_ERROR(
      ctx.ops.LightningGate(ctx.stream, {.o = o, .gate = gate, .w = norm_, .out = o, .sumsq = sumsq}));
  RETURN_IF_ERROR(
      ctx.ops.Linear(ctx.stream, {.x = o, .w = out_.w, .w_scale = out_.scale, .bias = {}, .out = out}));
  if (ctx.stage.size() > 1) {
    ctx.activity.Set("all-reduce after lightning attention", layer_);
    RETURN_IF_ERROR(ctx.stage.AllReduceSum(ctx.stream, joined));
  }
  RETURN_IF_ERROR(
      ctx.ops.ScaleByRms(ctx.stream, {.x = out, .sumsq = sumsq, .width = inner_width_, .eps = norm_eps_}));
  ctx.arena.Rewind(mark);
  return out;
}

}  // namespace fulger
