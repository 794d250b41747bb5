#include "worker/layers/softmax_attention.h"

#include <cmath>

namespace fulger {

absl::StatusOr<SoftmaxAttentionLayer> SoftmaxAttentionLayer::Make(const ModelConfig& config,
                                                                  const RankPlan& rank, int64_t layer,
                                                                  const WeightLookup& weights,
                                                                  MutTensorView keys, MutTensorView values) {
  SoftmaxAttentionLayer result;
  const TextConfig& text = config.text;
  result.layer_ = layer;
  result.heads_ = rank.query_heads.size();
  result.kv_heads_ = rank.kv_heads.size();
  result.head_dim_ = text.head_dim;
  for (int64_t i = 0; i < text.rotary_dim / 2; ++i) {
    result.inv_freq_.push_back(
        static_cast<float>(1.0 / std::pow(text.rope_theta, 2.0 * static_cast<double>(i) /
                                                               static_cast<double>(text.rotary_dim))));
  }
  ASSIGN_OR_RETURN(result.q_, weights.Matrix(layer, "self_attn.q_proj.weight"));
  ASSIGN_OR_RETURN(result.k_, weights.Matrix(layer, "self_attn.k_proj.weight"));
  ASSIGN_OR_RETURN(result.v_, weights.Matrix(layer, "self_attn.v_proj.weight"));
  ASSIGN_OR_RETURN(result.out_, weights.Matrix(layer, "self_attn.o_proj.weight"));
  result.keys_ = keys;
  result.values_ = values;
  return result;
}

absl::StatusOr<MutTensorView> SoftmaxAttentionLayer::Forward(ExecContext& ctx, const BatchRows& rows,
                                                             const TensorView& x) const {
  const int64_t t = rows.count;
  ASSIGN_OR_RETURN(MutTensorView out, ctx.arena.Allocate(DType::kF32, {t, x.dim(1)}));
  const size_t mark = ctx.arena.used();

  ctx.activity.Set("softmax attention", layer_);
  ASSIGN_OR_RETURN(MutTensorView q, ctx.arena.Allocate(DType::kF32, {t, heads_ * head_dim_}));
  ASSIGN_OR_RETURN(MutTensorView k, ctx.arena.Allocate(DType::kF32, {t, kv_heads_ * head_dim_}));
  ASSIGN_OR_RETURN(MutTensorView v, ctx.arena.Allocate(DType::kF32, {t, kv_heads_ * head_dim_}));
  ASSIGN_OR_RETURN(MutTensorView o, ctx.arena.Allocate(DType::kF32, {t, heads_ * head_dim_}));
  RETURN_IF_ERROR(ctx.ops.Linear(ctx.stream, {.x = x, .w = q_.w, .w_scale = q_.scale, .bias = {}, .out = q}));
  RETURN_IF_ERROR(ctx.ops.Linear(ctx.stream, {.x = x, .w = k_.w, .w_scale = k_.scale, .bias = {}, .out = k}));
  RETURN_IF_ERROR(ctx.ops.Linear(ctx.stream, {.x = x, .w = v_.w, .w_scale = v_.scale, .bias = {}, .out = v}));
  const MutTensorView heads = q.Reshape({t, heads_, head_dim_});
  RETURN_IF_ERROR(ctx.ops.RopeAndCache(ctx.stream, {.q = heads,
                                                    .k = k.Reshape({t, kv_heads_, head_dim_}),
                                                    .v = v.Reshape({t, kv_heads_, head_dim_}),
                                                    .inv_freq = inv_freq_,
                                                    .segments = rows.attention,
                                                    .k_cache = keys_,
                                                    .v_cache = values_}));
  RETURN_IF_ERROR(
      ctx.ops.PagedAttention(ctx.stream, {.q = heads,
                                          .k_cache = keys_,
                                          .v_cache = values_,
                                          .segments = rows.attention,
                                          .scale = 1.0F / std::sqrt(static_cast<float>(head_dim_)),
                                          .out = o}));
  RETURN_IF_ERROR(
      ctx.ops.Linear(ctx.stream, {.x = o, .w = out_.w, .w_scale = out_.scale, .bias = {}, .out = out}));
  if (ctx.stage.size() > 1) {
    ctx.activity.Set("all-reduce after softmax attention", layer_);
    RETURN_IF_ERROR(ctx.stage.AllReduceSum(ctx.stream, out.Reshape({out.elements()})));
  }
  ctx.arena.Rewind(mark);
  return out;
}

}  // namespace fulger
