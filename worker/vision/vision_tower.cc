#include "worker/vision/vision_tower.h"

#include <algorithm>
#include <cmath>

#include "model/cost/rank_memory.h"

namespace fulger {
namespace {

absl::Status Affine(ExecContext& ctx, const TensorView& x, const TensorView& w, const TensorView& b,
                    const MutTensorView& out) {
  return ctx.ops.Linear(ctx.stream, {.x = x, .w = w, .bias = b, .out = out});
}

}  // namespace

absl::StatusOr<VisionTower> VisionTower::Make(const ModelConfig& config, const WeightLookup& weights,
                                              const ImageProcessorConfig& processor) {
  VisionTower tower;
  tower.vision_ = *config.vision;
  for (size_t c = 0; c < 3; ++c) {
    tower.mean_[c] = static_cast<float>(processor.mean[c]);
    tower.std_[c] = static_cast<float>(processor.std[c]);
  }
  const auto pair = [&](int64_t layer, const std::string& name) -> absl::StatusOr<Norm> {
    Norm result;
    ASSIGN_OR_RETURN(result.weight, weights.Vision(layer, name + ".weight"));
    ASSIGN_OR_RETURN(result.bias, weights.Vision(layer, name + ".bias"));
    return result;
  };
  ASSIGN_OR_RETURN(TensorView conv, weights.Vision(-1, "embeddings.patch_embedding.weight"));
  tower.patch_embedding_ = conv.Reshape({conv.dim(0), conv.elements() / conv.dim(0)});
  ASSIGN_OR_RETURN(tower.class_embedding_, weights.Vision(-1, "embeddings.class_embedding"));
  ASSIGN_OR_RETURN(tower.position_embedding_, weights.Vision(-1, "embeddings.position_embedding.weight"));
  ASSIGN_OR_RETURN(tower.pre_norm_, pair(-1, "pre_layrnorm"));
  for (int64_t l = 0; l < config.vision->layers; ++l) {
    Layer layer;
    ASSIGN_OR_RETURN(layer.norm1, pair(l, "layer_norm1"));
    ASSIGN_OR_RETURN(layer.norm2, pair(l, "layer_norm2"));
    ASSIGN_OR_RETURN(layer.q, pair(l, "self_attn.q_proj"));
    ASSIGN_OR_RETURN(layer.k, pair(l, "self_attn.k_proj"));
    ASSIGN_OR_RETURN(layer.v, pair(l, "self_attn.v_proj"));
    ASSIGN_OR_RETURN(layer.out, pair(l, "self_attn.out_proj"));
    ASSIGN_OR_RETURN(layer.fc1, pair(l, "mlp.fc1"));
    ASSIGN_OR_RETURN(layer.fc2, pair(l, "mlp.fc2"));
    tower.layers_.push_back(layer);
  }
  ASSIGN_OR_RETURN(tower.linear1_, pair(-1, "linear_1"));
  ASSIGN_OR_RETURN(tower.linear2_, pair(-1, "linear_2"));
  ASSIGN_OR_RETURN(tower.newline_, weights.Vision(-1, "image_newline"));
  return tower;
}

absl::Status VisionTower::Encode(ExecContext& ctx, const TensorView& tiles, const MutTensorView& out) const {
  const int64_t n = tiles.dim(0);
  const int64_t patches = vision_.patches();
  for (int64_t begin = 0; begin < n; begin += kTilesPerBatch) {
    const int64_t count = std::min(kTilesPerBatch, n - begin);
    const size_t mark = ctx.arena.used();
    RETURN_IF_ERROR(EncodeBatch(ctx, tiles.Rows(begin, count), out.Rows(begin * patches, count * patches),
                                /*inspect=*/{}));
    ctx.arena.Rewind(mark);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> VisionTower::FirstBadPart(ExecContext& ctx, const TensorView& tiles) const {
  const int64_t rows = tiles.dim(0) * vision_.patches();
  const int64_t width = linear2_.weight.dim(0);
  ASSIGN_OR_RETURN(const Buffer out, ctx.device.Allocate(static_cast<size_t>(rows * width) * sizeof(float)));
  std::string bad;
  const auto look = [&](const std::string& part, const TensorView& values) -> absl::Status {
    if (!bad.empty()) return absl::OkStatus();
    std::vector<float> host(static_cast<size_t>(values.elements()));
    RETURN_IF_ERROR(
        ctx.device.CopyToHost(ctx.stream, values.raw(), host.data(), host.size() * sizeof(float)));
    RETURN_IF_ERROR(ctx.stream.Synchronize());
    if (!std::all_of(host.begin(), host.end(), [](float v) { return std::isfinite(v); })) bad = part;
    return absl::OkStatus();
  };
  const size_t mark = ctx.arena.used();
  const MutTensorView features(out.data(), DType::kF32, {rows, width});
  RETURN_IF_ERROR(EncodeBatch(ctx, tiles, features, look));
  ctx.arena.Rewind(mark);
  RETURN_IF_ERROR(look("projector", features));
  return bad;
}

absl::Status VisionTower::EncodeBatch(ExecContext& ctx, const TensorView& tiles, const MutTensorView& out,
                                      const Inspect& inspect) const {
  const int64_t n = tiles.dim(0);
  const int64_t patches = vision_.patches();
  const int64_t d = vision_.hidden;
  ctx.activity.Set("vision embedding");
  ASSIGN_OR_RETURN(MutTensorView x, ctx.arena.Allocate(DType::kF32, {n, patches + 1, d}));
  {
    const size_t mark = ctx.arena.used();
    ASSIGN_OR_RETURN(MutTensorView pixels,
                     ctx.arena.Allocate(DType::kF32, {n * patches, patch_embedding_.dim(1)}));
    ASSIGN_OR_RETURN(MutTensorView embedded, ctx.arena.Allocate(DType::kF32, {n * patches, d}));
    RETURN_IF_ERROR(ctx.ops.Patchify(
        ctx.stream,
        {.tiles = tiles, .patch = vision_.patch_size, .mean = mean_, .std = std_, .out = pixels}));
    RETURN_IF_ERROR(Affine(ctx, pixels, patch_embedding_, {}, embedded));
    RETURN_IF_ERROR(ctx.ops.VitEmbed(
        ctx.stream,
        {.patches = embedded, .cls = class_embedding_, .position = position_embedding_, .out = x}));
    ctx.arena.Rewind(mark);
  }
  const MutTensorView tokens = x.Reshape({n * (patches + 1), d});
  RETURN_IF_ERROR(ctx.ops.LayerNorm(ctx.stream, {.x = tokens,
                                                 .w = pre_norm_.weight,
                                                 .b = pre_norm_.bias,
                                                 .eps = static_cast<float>(vision_.layer_norm_eps),
                                                 .out = tokens}));
  if (inspect) RETURN_IF_ERROR(inspect("vision embedding", tokens));
  for (size_t l = 0; l < layers_.size(); ++l) {
    ctx.activity.Set("vision layer", static_cast<int64_t>(l));
    RETURN_IF_ERROR(RunLayer(ctx, layers_[l], n, tokens));
    if (inspect) RETURN_IF_ERROR(inspect(fmt::format("vision layer {}", l), tokens));
  }
  ctx.activity.Set("projector");
  ASSIGN_OR_RETURN(const MutTensorView features, ctx.arena.Allocate(DType::kF32, {n * patches, d}));
  for (int64_t i = 0; i < n; ++i) {  // without the class token, which sits between tiles
    const MutTensorView to = features.Rows(i * patches, patches);
    RETURN_IF_ERROR(ctx.device.Copy(ctx.stream, tokens.Rows(i * (patches + 1) + 1, patches).raw(),
                                    to.mut_raw(), static_cast<size_t>(to.bytes())));
  }
  return Project(ctx, features, out);
}

absl::Status VisionTower::RunLayer(ExecContext& ctx, const Layer& layer, int64_t tiles,
                                   const MutTensorView& x) const {
  const int64_t rows = x.dim(0);
  const int64_t d = vision_.hidden;
  const int64_t head_dim = d / vision_.heads;
  const float eps = static_cast<float>(vision_.layer_norm_eps);
  const size_t mark = ctx.arena.used();
  ASSIGN_OR_RETURN(MutTensorView normed, ctx.arena.Allocate(DType::kF32, {rows, d}));
  ASSIGN_OR_RETURN(MutTensorView branch, ctx.arena.Allocate(DType::kF32, {rows, d}));

  RETURN_IF_ERROR(ctx.ops.LayerNorm(
      ctx.stream, {.x = x, .w = layer.norm1.weight, .b = layer.norm1.bias, .eps = eps, .out = normed}));
  {
    const size_t inner = ctx.arena.used();
    ASSIGN_OR_RETURN(MutTensorView q, ctx.arena.Allocate(DType::kF32, {rows, d}));
    ASSIGN_OR_RETURN(MutTensorView k, ctx.arena.Allocate(DType::kF32, {rows, d}));
    ASSIGN_OR_RETURN(MutTensorView v, ctx.arena.Allocate(DType::kF32, {rows, d}));
    ASSIGN_OR_RETURN(MutTensorView o, ctx.arena.Allocate(DType::kF32, {rows, d}));
    RETURN_IF_ERROR(Affine(ctx, normed, layer.q.weight, layer.q.bias, q));
    RETURN_IF_ERROR(Affine(ctx, normed, layer.k.weight, layer.k.bias, k));
    RETURN_IF_ERROR(Affine(ctx, normed, layer.v.weight, layer.v.bias, v));
    const int64_t s = rows / tiles;
    RETURN_IF_ERROR(
        ctx.ops.FullAttention(ctx.stream, {.q = q.Reshape({tiles, s, vision_.heads, head_dim}),
                                           .k = k.Reshape({tiles, s, vision_.heads, head_dim}),
                                           .v = v.Reshape({tiles, s, vision_.heads, head_dim}),
                                           .scale = 1.0F / std::sqrt(static_cast<float>(head_dim)),
                                           .out = o.Reshape({tiles, s, d})}));
    RETURN_IF_ERROR(Affine(ctx, o, layer.out.weight, layer.out.bias, branch));
    ctx.arena.Rewind(inner);
  }
  RETURN_IF_ERROR(ctx.ops.AddScaled(ctx.stream, {.a = x, .alpha = 1, .b = branch, .beta = 1, .out = x}));

  RETURN_IF_ERROR(ctx.ops.LayerNorm(
      ctx.stream, {.x = x, .w = layer.norm2.weight, .b = layer.norm2.bias, .eps = eps, .out = normed}));
  ASSIGN_OR_RETURN(MutTensorView wide, ctx.arena.Allocate(DType::kF32, {rows, vision_.intermediate}));
  RETURN_IF_ERROR(Affine(ctx, normed, layer.fc1.weight, layer.fc1.bias, wide));
  RETURN_IF_ERROR(ctx.ops.Gelu(ctx.stream, {.x = wide}));
  RETURN_IF_ERROR(Affine(ctx, wide, layer.fc2.weight, layer.fc2.bias, branch));
  RETURN_IF_ERROR(ctx.ops.AddScaled(ctx.stream, {.a = x, .alpha = 1, .b = branch, .beta = 1, .out = x}));
  ctx.arena.Rewind(mark);
  return absl::OkStatus();
}

absl::Status VisionTower::Project(ExecContext& ctx, const TensorView& features,
                                  const MutTensorView& out) const {
  const size_t mark = ctx.arena.used();
  ASSIGN_OR_RETURN(MutTensorView wide,
                   ctx.arena.Allocate(DType::kF32, {features.dim(0), linear1_.weight.dim(0)}));
  RETURN_IF_ERROR(Affine(ctx, features, linear1_.weight, linear1_.bias, wide));
  RETURN_IF_ERROR(ctx.ops.Gelu(ctx.stream, {.x = wide}));
  RETURN_IF_ERROR(Affine(ctx, wide, linear2_.weight, linear2_.bias, out));
  ctx.arena.Rewind(mark);
  return absl::OkStatus();
}

}  // namespace fulger
