#include "worker/layers/decoder_stack.h"

#include <utility>

namespace fulger {

absl::StatusOr<DecoderStack> DecoderStack::Make(const ModelConfig& config, const RankPlan& rank,
                                                const WeightLookup& weights, const KvCache& kv,
                                                const LightningStates& states, Device& device) {
  DecoderStack stack;
  stack.eps_ = static_cast<float>(config.text.rms_norm_eps);
  stack.mlp_residual_ = config.text.mlp_residual;
  for (int64_t l = rank.layers.begin; l < rank.layers.end; ++l) {
    Layer layer;
    layer.index = l;
    if (config.text.layer_kinds[static_cast<size_t>(l)] == LayerKind::kLightning) {
      layer.attention_residual = config.text.lightning_residual;
      ASSIGN_OR_RETURN(layer.attention,
                       LightningAttentionLayer::Make(config, rank, l, weights, states.states(l), device));
    } else {
      layer.attention_residual = config.text.softmax_residual;
      ASSIGN_OR_RETURN(layer.attention,
                       SoftmaxAttentionLayer::Make(config, rank, l, weights, kv.keys(l), kv.values(l)));
    }
    ASSIGN_OR_RETURN(layer.moe, MoeLayer::Make(config, rank, l, weights));
    ASSIGN_OR_RETURN(layer.input_norm, weights.Text(l, "input_layernorm.weight"));
    ASSIGN_OR_RETURN(layer.post_norm, weights.Text(l, "post_attention_layernorm.weight"));
    stack.layers_.push_back(std::move(layer));
  }
  if (rank.last_stage) {
    ASSIGN_OR_RETURN(stack.final_norm_, weights.Text(-1, "model.norm.weight"));
  }
  return stack;
}

absl::Status DecoderStack::Forward(ExecContext& ctx, const BatchRows& rows, const MutTensorView& h) const {
  const auto note = [&rows](int32_t tag) { return HealthNote{.rows = rows.health, .tag = tag}; };
  const float alpha = static_cast<float>(mlp_residual_.alpha);
  const float beta = static_cast<float>(mlp_residual_.beta);
  // `h` holds, in turn: the incoming stream, x0, x1.
  const int64_t before_first = layers_.empty() ? 0 : layers_.front().index;
  if (!layers_.empty()) {
    RETURN_IF_ERROR(ctx.ops.RmsNorm(
        ctx.stream, {.x = h,
                     .w = layers_.front().input_norm,
                     .eps = eps_,
                     .out = h,
                     .health = note(before_first == 0 ? kEmbeddingTag : MoeTag(before_first - 1))}));
  }
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const size_t mark = ctx.arena.used();
    ASSIGN_OR_RETURN(
        MutTensorView branch,
        std::visit([&](const auto& attention) { return attention.Forward(ctx, rows, h); }, layer.attention));
    RETURN_IF_ERROR(
        ctx.ops.AddRmsNorm(ctx.stream, {.residual = h,
                                        .branch = branch,
                                        .alpha = static_cast<float>(layer.attention_residual.alpha),
                                        .beta = static_cast<float>(layer.attention_residual.beta),
                                        .w = layer.post_norm,
                                        .eps = eps_,
                                        .out = h,
                                        .health = note(AttentionTag(layer.index))}));
    ASSIGN_OR_RETURN(branch, layer.moe.Forward(ctx, rows, h));
    const bool last = i + 1 == layers_.size();
    const TensorView& next_norm = last ? final_norm_ : layers_[i + 1].input_norm;
    if (last && final_norm_.empty_view()) {
      RETURN_IF_ERROR(
          ctx.ops.AddScaled(ctx.stream, {.a = h, .alpha = alpha, .b = branch, .beta = beta, .out = h}));
    } else {
      RETURN_IF_ERROR(ctx.ops.AddRmsNorm(ctx.stream, {.residual = h,
                                                      .branch = branch,
                                                      .alpha = alpha,
                                                      .beta = beta,
                                                      .w = next_norm,
                                                      .eps = eps_,
                                                      .out = h,
                                                      .health = note(MoeTag(layer.index))}));
    }
    ctx.arena.Rewind(mark);
  }
  return absl::OkStatus();
}

}  // namespace fulger
