#include "model/plan_hash.h"

#include "base/sha256.h"

namespace fulger {
namespace {

void Put(std::string& out, int64_t v) { out += fmt::format("{},", v); }
void Put(std::string& out, double v) { out += fmt::format("{:a},", v); }
void Put(std::string& out, const ResidualScale& s) {
  Put(out, s.alpha);
  Put(out, s.beta);
}
void Put(std::string& out, const Range& r) { out += fmt::format("{}-{},", r.begin, r.end); }

std::string Canonical(const ModelConfig& config) {
  const TextConfig& t = config.text;
  std::string out = "text:";
  for (const int64_t v : {t.vocab, t.hidden, t.expert_width, t.heads, t.kv_heads, t.head_dim, t.experts,
                          t.experts_per_token, t.rotary_dim, t.block_size, t.max_positions}) {
    Put(out, v);
  }
  for (const LayerKind kind : t.layer_kinds) out += kind == LayerKind::kLightning ? 'l' : 's';
  out += ',';
  for (const ResidualScale& s : {t.softmax_residual, t.lightning_residual, t.mlp_residual}) Put(out, s);
  for (const double v : {t.rms_norm_eps, t.lightning_norm_eps, t.rope_theta}) Put(out, v);
  Put(out, int64_t{t.bos_token_id.value_or(-1)});
  Put(out, int64_t{t.eos_token_id.value_or(-1)});
  if (config.vision) {
    const VisionConfig& v = *config.vision;
    out += "vision:";
    for (const int64_t n : {v.hidden, v.intermediate, v.layers, v.heads, v.image_size, v.patch_size}) {
      Put(out, n);
    }
    Put(out, v.layer_norm_eps);
    Put(out, int64_t{config.image_token_id});
    for (const auto& pair : config.image_grid_pinpoints) out += fmt::format("{}x{},", pair[0], pair[1]);
  }
  return out;
}

std::string Canonical(const RankPlan& r) {
  std::string out = fmt::format("\nrank {}:", r.rank);
  for (const int v : {r.vision_only ? 1 : 0, r.stage, r.index, r.first_stage ? 1 : 0, r.last_stage ? 1 : 0,
                      r.holds_vision ? 1 : 0, r.expert_group}) {
    Put(out, int64_t{v});
  }
  for (const Range& range : {r.layers, r.query_heads, r.kv_heads, r.experts, r.expert_columns, r.vocab}) {
    Put(out, range);
  }
  return out;
}

}  // namespace

std::string HashOfPlan(const ModelConfig& config, const Plan& plan) {
  Sha256 hash;
  hash.Update(Canonical(config));
  hash.Update("\n" + ToString(plan.layout));
  for (const RankPlan& rank : plan.ranks) hash.Update(Canonical(rank));
  return hash.HexDigest();
}

}  // namespace fulger
