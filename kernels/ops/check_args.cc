#include "kernels/ops/check_args.h"

#include "kernels/ops/arg_checker.h"

namespace fulger {
namespace {

using C = ArgChecker;

void CheckHealth(ArgChecker& c, const HealthNote& health, Dim& t) {
  c.CheckOptional("health.rows", health.rows, {&t}, C::kI32);
}

// Segments lie inside the rows; nothing else about them is shared.
template <typename Segment>
void CheckRange(ArgChecker& c, size_t i, const Segment& s, const Dim& t) {
  c.Require(s.row >= 0 && s.count >= 0 && s.row + s.count <= t.value,
            "segment {}: rows [{}, {}) are outside [0, {})", i, s.row, s.row + s.count, t.value);
}

void CheckAttentionSegments(ArgChecker& c, std::span<const AttentionSegment> segments, const Dim& t,
                            const Dim& blocks, const Dim& block_size) {
  for (size_t i = 0; i < segments.size() && c.ok(); ++i) {
    const AttentionSegment& s = segments[i];
    CheckRange(c, i, s, t);
    if (s.blocks.empty()) continue;
    c.Require(s.position >= 0, "segment {}: position {} is negative", i, s.position);
    const auto capacity = static_cast<int64_t>(s.blocks.size()) * block_size.value;
    c.Require(s.position + s.count <= capacity,
              "segment {}: positions up to {} need more than its {} blocks of {}", i, s.position + s.count,
              s.blocks.size(), block_size.value);
    for (const int32_t id : s.blocks) {
      c.Require(id >= 0 && id < blocks.value, "segment {}: block {} is outside [0, {})", i, id, blocks.value);
    }
  }
}

}  // namespace

absl::Status CheckArgs(const LinearArgs& args) {
  Dim t{"T"}, k{"K"}, n{"N"};
  ArgChecker c("Linear");
  c.Check("x", args.x, {&t, &k}, C::kF32, C::kRowsStrided);
  c.Check("w", args.w, {&n, &k}, C::kWeight | C::kI8, C::kRowsStrided);
  if (args.w.dtype() == DType::kI8) {
    c.Check("w_scale", args.w_scale, {&n}, C::kF32);
  } else {
    c.Require(args.w_scale.empty_view(), "w_scale belongs to I8 weights, w is {}", Name(args.w.dtype()));
  }
  c.CheckOptional("bias", args.bias, {&n}, C::kWeight);
  c.Check("out", args.out, {&t, &n}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const RmsNormArgs& args) {
  Dim t{"T"}, h{"H"};
  ArgChecker c("RmsNorm");
  c.Check("x", args.x, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("w", args.w, {&h}, C::kWeight);
  c.Check("out", args.out, {&t, &h}, C::kF32, C::kRowsStrided);
  CheckHealth(c, args.health, t);
  return c.status();
}

absl::Status CheckArgs(const AddRmsNormArgs& args) {
  Dim t{"T"}, h{"H"};
  ArgChecker c("AddRmsNorm");
  c.Check("residual", args.residual, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("branch", args.branch, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("w", args.w, {&h}, C::kWeight);
  c.Check("out", args.out, {&t, &h}, C::kF32, C::kRowsStrided);
  CheckHealth(c, args.health, t);
  return c.status();
}

absl::Status CheckArgs(const AddScaledArgs& args) {
  Dim t{"T"}, h{"H"};
  ArgChecker c("AddScaled");
  c.Check("a", args.a, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("b", args.b, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("out", args.out, {&t, &h}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const LayerNormArgs& args) {
  Dim t{"T"}, h{"H"};
  ArgChecker c("LayerNorm");
  c.Check("x", args.x, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("w", args.w, {&h}, C::kWeight);
  c.Check("b", args.b, {&h}, C::kWeight);
  c.Check("out", args.out, {&t, &h}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const LightningArgs& args) {
  Dim t{"T"}, heads{"heads"}, d3{"3d"}, slots{"slots"}, d{"d"}, width{"heads*d"};
  ArgChecker c("Lightning");
  c.Check("states", args.states, {&slots, &heads, &d, &d}, C::kF32);
  d3.value = c.ok() ? 3 * d.value : -1;
  width.value = c.ok() ? heads.value * d.value : -1;
  c.Check("qkv", args.qkv, {&t, &heads, &d3}, C::kF32, C::kRowsStrided);
  c.Check("slopes", args.slopes, {&heads}, C::kF32);
  c.Check("out", args.out, {&t, &width}, C::kF32, C::kRowsStrided);
  c.Require(args.block >= 1, "block: expected at least 1, got {}", args.block);
  for (size_t i = 0; i < args.segments.size() && c.ok(); ++i) {
    CheckRange(c, i, args.segments[i], t);
    const int32_t slot = args.segments[i].slot;
    c.Require(slot >= -1 && slot < slots.value, "segment {}: slot {} is outside [-1, {})", i, slot,
              slots.value);
  }
  return c.status();
}

absl::Status CheckArgs(const LightningGateArgs& args) {
  Dim t{"T"}, i{"I"};
  ArgChecker c("LightningGate");
  c.Check("o", args.o, {&t, &i}, C::kF32, C::kRowsStrided);
  c.Check("gate", args.gate, {&t, &i}, C::kF32, C::kRowsStrided);
  c.Check("w", args.w, {&i}, C::kWeight);
  c.Check("out", args.out, {&t, &i}, C::kF32, C::kRowsStrided);
  c.Check("sumsq", args.sumsq, {&t}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const ScaleByRmsArgs& args) {
  Dim t{"T"}, h{"H"};
  ArgChecker c("ScaleByRms");
  c.Check("x", args.x, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("sumsq", args.sumsq, {&t}, C::kF32, C::kRowsStrided);
  c.Require(args.width > 0, "width: expected at least 1, got {}", args.width);
  return c.status();
}

absl::Status CheckArgs(const RopeAndCacheArgs& args) {
  Dim t{"T"}, heads{"heads"}, kv{"kv_heads"}, d{"d"}, blocks{"blocks"}, size{"block_size"};
  ArgChecker c("RopeAndCache");
  c.Check("q", args.q, {&t, &heads, &d}, C::kF32, C::kRowsStrided);
  c.Check("k", args.k, {&t, &kv, &d}, C::kF32, C::kRowsStrided);
  c.Check("v", args.v, {&t, &kv, &d}, C::kF32, C::kRowsStrided);
  c.Check("k_cache", args.k_cache, {&blocks, &kv, &size, &d}, C::kWeight);
  c.Check("v_cache", args.v_cache, {&blocks, &kv, &size, &d}, C::kWeight);
  c.Require(2 * static_cast<int64_t>(args.inv_freq.size()) <= d.value,
            "inv_freq: {} frequencies rotate more than the head's {} dims", args.inv_freq.size(), d.value);
  c.Require(args.k_cache.dtype() == args.v_cache.dtype(), "v_cache: expected {}, got {}",
            Name(args.k_cache.dtype()), Name(args.v_cache.dtype()));
  CheckAttentionSegments(c, args.segments, t, blocks, size);
  return c.status();
}

absl::Status CheckArgs(const PagedAttentionArgs& args) {
  Dim t{"T"}, heads{"heads"}, kv{"kv_heads"}, d{"d"}, blocks{"blocks"}, size{"block_size"}, width{"heads*d"};
  ArgChecker c("PagedAttention");
  c.Check("q", args.q, {&t, &heads, &d}, C::kF32, C::kRowsStrided);
  c.Check("k_cache", args.k_cache, {&blocks, &kv, &size, &d}, C::kWeight);
  c.Check("v_cache", args.v_cache, {&blocks, &kv, &size, &d}, C::kWeight);
  width.value = c.ok() ? heads.value * d.value : -1;
  c.Check("out", args.out, {&t, &width}, C::kF32, C::kRowsStrided);
  c.Require(args.k_cache.dtype() == args.v_cache.dtype(), "v_cache: expected {}, got {}",
            Name(args.k_cache.dtype()), Name(args.v_cache.dtype()));
  c.Require(kv.value > 0 && heads.value % kv.value == 0, "q: {} heads are not a multiple of {} kv heads",
            heads.value, kv.value);
  CheckAttentionSegments(c, args.segments, t, blocks, size);
  return c.status();
}

absl::Status CheckArgs(const FullAttentionArgs& args) {
  Dim tiles{"tiles"}, s{"S"}, heads{"heads"}, d{"d"}, width{"heads*d"};
  ArgChecker c("FullAttention");
  c.Check("q", args.q, {&tiles, &s, &heads, &d}, C::kF32, C::kLastContiguous);
  c.Check("k", args.k, {&tiles, &s, &heads, &d}, C::kF32, C::kLastContiguous);
  c.Check("v", args.v, {&tiles, &s, &heads, &d}, C::kF32, C::kLastContiguous);
  width.value = c.ok() ? heads.value * d.value : -1;
  c.Check("out", args.out, {&tiles, &s, &width}, C::kF32);
  return c.status();
}

absl::Status CheckArgs(const RouterArgs& args) {
  Dim t{"T"}, h{"H"}, e{"E"}, k{"k"};
  ArgChecker c("Router");
  c.Check("x", args.x, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("gate", args.gate, {&e, &h}, C::kWeight, C::kRowsStrided);
  c.Check("ids", args.ids, {&t, &k}, C::kI32);
  c.Check("weights", args.weights, {&t, &k}, C::kF32);
  c.Require(k.value >= 1 && k.value <= e.value, "ids: k = {} is outside [1, E = {}]", k.value, e.value);
  return c.status();
}

absl::Status CheckArgs(const MoeArgs& args) {
  Dim t{"T"}, h{"H"}, e{"E_local"}, f{"F"}, k{"k"};
  ArgChecker c("Moe");
  c.Check("x", args.x, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Check("ids", args.ids, {&t, &k}, C::kI32);
  c.Check("weights", args.weights, {&t, &k}, C::kF32);
  const bool int8 = args.w1.dtype() == DType::kI8;
  c.Check("w1", args.w1, {&e, &f, &h}, C::kWeight | C::kI8);
  c.Check("w3", args.w3, {&e, &f, &h}, C::kWeight | C::kI8);
  c.Check("w2", args.w2, {&e, &h, &f}, int8 ? C::kI8 : C::kWeight);
  if (int8) {
    c.Check("w1_scale", args.w1_scale, {&e, &f}, C::kF32);
    c.Check("w3_scale", args.w3_scale, {&e, &f}, C::kF32);
    c.Check("w2_scale", args.w2_scale, {&e, &h}, C::kF32);
  } else {
    c.Require(args.w1_scale.empty_view() && args.w3_scale.empty_view() && args.w2_scale.empty_view(),
              "scales belong to I8 weights, w1 is {}", Name(args.w1.dtype()));
  }
  c.Check("out", args.out, {&t, &h}, C::kF32, C::kRowsStrided);
  c.Require(args.w1.dtype() == args.w3.dtype(), "w3: expected {} as w1, got {}", Name(args.w1.dtype()),
            Name(args.w3.dtype()));
  return c.status();
}

absl::Status CheckArgs(const EmbeddingArgs& args) {
  Dim t{"T"}, r{"R"}, h{"H"};
  ArgChecker c("Embedding");
  c.Check("ids", args.ids, {&t}, C::kI32);
  c.Check("table", args.table, {&r, &h}, C::kWeight, C::kRowsStrided);
  c.Check("out", args.out, {&t, &h}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const GatherRowsArgs& args) {
  Dim rows{"N"}, n{"n"}, h{"H"};
  ArgChecker c("GatherRows");
  c.Check("src", args.src, {&rows, &h}, C::kF32, C::kRowsStrided);
  c.Check("index", args.index, {&n}, C::kI32);
  c.CheckOptional("fill", args.fill, {&h}, C::kWeight);
  c.Check("out", args.out, {&n, &h}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const ScatterRowsArgs& args) {
  Dim rows{"N"}, n{"n"}, h{"H"};
  ArgChecker c("ScatterRows");
  c.Check("src", args.src, {&n, &h}, C::kF32, C::kRowsStrided);
  c.Check("index", args.index, {&n}, C::kI32);
  c.Check("out", args.out, {&rows, &h}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const GeluArgs& args) {
  Dim t{"T"}, h{"H"};
  ArgChecker c("Gelu");
  c.Check("x", args.x, {&t, &h}, C::kF32, C::kRowsStrided);
  return c.status();
}

absl::Status CheckArgs(const PatchifyArgs& args) {
  Dim n{"n"}, s{"S"}, channels{"3", 3}, rows{"n*(S/p)^2"}, width{"3*p*p"};
  ArgChecker c("Patchify");
  c.Check("tiles", args.tiles, {&n, &s, &s, &channels}, C::kU8);
  c.Require(args.patch >= 1 && s.value % args.patch == 0, "patch: {} does not divide the tile's {}",
            args.patch, s.value);
  if (!c.ok()) return c.status();
  const int64_t grid = s.value / args.patch;
  rows.value = n.value * grid * grid;
  width.value = 3 * args.patch * args.patch;
  c.Check("out", args.out, {&rows, &width}, C::kF32, C::kRowsStrided);
  for (const float s_c : args.std) c.Require(s_c > 0.0F, "std: expected positive values, got {}", s_c);
  return c.status();
}

absl::Status CheckArgs(const VitEmbedArgs& args) {
  Dim n{"n"}, positions{"P+1"}, d{"D"}, rows{"n*P"};
  ArgChecker c("VitEmbed");
  c.Check("out", args.out, {&n, &positions, &d}, C::kF32);
  c.Require(positions.value >= 1, "out: expected room for the class token, got {}", args.out.ToString());
  rows.value = c.ok() ? n.value * (positions.value - 1) : -1;
  c.Check("patches", args.patches, {&rows, &d}, C::kF32, C::kRowsStrided);
  c.Check("cls", args.cls, {&d}, C::kWeight);
  c.Check("position", args.position, {&positions, &d}, C::kWeight);
  return c.status();
}

}  // namespace fulger
