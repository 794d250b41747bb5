#include "model/layout.h"

#include <algorithm>

#include "base/check.h"
#include "model/plan_hash.h"

namespace fulger {
namespace {

constexpr int kMostRanks = 1 << 16;

absl::Status CheckCounts(const ModelConfig& config, const Layout& l) {
  if (l.pp < 1 || l.tp < 1 || l.ep < 1 || l.vision < 0) {
    return InvalidArgument("layout {}: pp, tp and ep must be at least 1 and vision at least 0", ToString(l));
  }
  if (l.dp != 1)
    return InvalidArgument("dp {}: attention data parallelism is not supported, must be 1", l.dp);
  if (static_cast<int64_t>(l.pp) * l.tp > kMostRanks || l.vision > kMostRanks) {
    return InvalidArgument("layout {}: more than {} ranks", ToString(l), kMostRanks);
  }
  if (l.vision > 0 && !config.vision) {
    return InvalidArgument("vision {}: the model has no vision tower, must be 0", l.vision);
  }
  return absl::OkStatus();
}

absl::Status CheckStages(const TextConfig& text, const Layout& l) {
  if (l.pp > text.layers()) {
    return InvalidArgument("pp {}: more stages than the {} layers", l.pp, text.layers());
  }
  if (l.stage_layers.empty()) return absl::OkStatus();
  if (l.stage_layers.size() != static_cast<size_t>(l.pp)) {
    return InvalidArgument("stage layers: expected pp = {} numbers, found {}", l.pp, l.stage_layers.size());
  }
  int64_t sum = 0;
  for (const int n : l.stage_layers) {
    if (n < 1) return InvalidArgument("stage layers: every stage needs at least 1 layer, found {}", n);
    sum += n;
  }
  if (sum != text.layers()) {
    return InvalidArgument("stage layers: expected the sum {} (layers), found {}", text.layers(), sum);
  }
  return absl::OkStatus();
}

absl::Status CheckCuts(const TextConfig& text, const Layout& l) {
  if (text.heads % l.tp != 0) {
    return InvalidArgument("tp {}: does not divide the {} query heads", l.tp, text.heads);
  }
  if (l.tp <= text.kv_heads && text.kv_heads % l.tp != 0) {
    return InvalidArgument("tp {}: does not divide the {} KV heads", l.tp, text.kv_heads);
  }
  if (l.tp > text.kv_heads && l.tp % text.kv_heads != 0) {
    return InvalidArgument("tp {}: above the {} KV heads it must be a multiple of them", l.tp, text.kv_heads);
  }
  if (l.tp % l.ep != 0) return InvalidArgument("ep {}: does not divide tp {}", l.ep, l.tp);
  if (text.experts % l.ep != 0) {
    return InvalidArgument("ep {}: does not divide the {} experts", l.ep, text.experts);
  }
  const int group = l.tp / l.ep;
  if (text.expert_width % group != 0) {
    return InvalidArgument("tp {} / ep {}: the {} ranks of an expert group do not divide the expert width {}",
                           l.tp, l.ep, group, text.expert_width);
  }
  return absl::OkStatus();
}

absl::Status CheckLayout(const ModelConfig& config, const Layout& layout) {
  RETURN_IF_ERROR(CheckCounts(config, layout));
  RETURN_IF_ERROR(CheckStages(config.text, layout));
  return CheckCuts(config.text, layout);
}

// "layouts of 6 ranks that work: pp 3 x tp 2; pp 6 x tp 1".
std::string Suggestions(const ModelConfig& config, const Layout& layout) {
  constexpr size_t kMost = 8;
  const int64_t ranks = static_cast<int64_t>(layout.pp) * layout.tp;
  if (layout.pp < 1 || layout.tp < 1 || ranks > kMostRanks) return "";
  std::vector<Layout> possible = PossibleLayouts(config, static_cast<int>(ranks));
  if (possible.empty()) return fmt::format("; no layout of {} ranks works for this model", ranks);
  std::string text;
  for (size_t i = 0; i < std::min(possible.size(), kMost); ++i) {
    text += (i == 0 ? "" : "; ") + ToString(possible[i]);
  }
  if (possible.size() > kMost) text += fmt::format("; and {} more", possible.size() - kMost);
  return fmt::format("; layouts of {} ranks that work: {}", ranks, text);
}

Range StageLayers(const TextConfig& text, const Layout& layout, int stage) {
  if (layout.stage_layers.empty()) {
    return {stage * text.layers() / layout.pp, (stage + 1) * text.layers() / layout.pp};
  }
  int64_t begin = 0;
  for (int p = 0; p < stage; ++p) begin += layout.stage_layers[static_cast<size_t>(p)];
  return {begin, begin + layout.stage_layers[static_cast<size_t>(stage)]};
}

// Part `index` of `parts` equal ones.
Range EqualPart(int64_t total, int64_t parts, int64_t index) {
  const int64_t size = total / parts;
  return {index * size, (index + 1) * size};
}

Range VocabRun(int64_t vocab, int64_t tp, int64_t index) {
  const int64_t run = (vocab + tp - 1) / tp;
  return {std::min(vocab, index * run), std::min(vocab, (index + 1) * run)};
}

RankPlan LanguageRank(const ModelConfig& config, const Layout& layout, int stage, int index) {
  const TextConfig& text = config.text;
  const int group_size = layout.tp / layout.ep;
  RankPlan r;
  r.rank = stage * layout.tp + index;
  r.stage = stage;
  r.index = index;
  r.first_stage = stage == 0;
  r.last_stage = stage == layout.pp - 1;
  r.holds_vision = config.vision.has_value() && layout.vision == 0 && r.first_stage;
  r.layers = StageLayers(text, layout, stage);
  r.query_heads = EqualPart(text.heads, layout.tp, index);
  if (layout.tp <= text.kv_heads) {
    r.kv_heads = EqualPart(text.kv_heads, layout.tp, index);
  } else {
    const int64_t head = index * text.kv_heads / layout.tp;
    r.kv_heads = {head, head + 1};
  }
  r.expert_group = index / group_size;
  r.experts = EqualPart(text.experts, layout.ep, r.expert_group);
  r.expert_columns = EqualPart(text.expert_width, group_size, index % group_size);
  r.expert_format = layout.experts;
  r.projection_format = layout.projections;
  if (r.first_stage || r.last_stage) r.vocab = VocabRun(text.vocab, layout.tp, index);
  return r;
}

RankPlan VisionRank(const Layout& layout, int index) {
  RankPlan r;
  r.rank = layout.pp * layout.tp + index;
  r.vision_only = true;
  r.holds_vision = true;
  r.stage = -1;
  r.index = index;
  return r;
}

}  // namespace

std::string_view Name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kStored:
      return "stored";
    case WeightFormat::kInt8:
      return "int8";
  }
  return "?";
}

absl::StatusOr<WeightFormat> WeightFormatFromName(std::string_view kind, std::string_view name) {
  for (const WeightFormat format : {WeightFormat::kStored, WeightFormat::kInt8}) {
    if (name == Name(format)) return format;
  }
  return InvalidArgument("{} \"{}\": expected stored or int8", kind, name);
}

std::vector<int> RanksOfColumns(const Plan& plan, int rank, Cut cut) {
  FULGER_CHECK(cut == Cut::kExpertColumns || cut == Cut::kQueryHeadColumns, "cut {}", static_cast<int>(cut));
  const RankPlan& own = plan.ranks[static_cast<size_t>(rank)];
  std::vector<int> ranks;
  for (const RankPlan& other : plan.ranks) {
    if (!other.vision_only && !own.vision_only && other.stage == own.stage &&
        (cut == Cut::kQueryHeadColumns || other.expert_group == own.expert_group)) {
      ranks.push_back(other.rank);
    }
  }
  return ranks;
}

std::string ToString(const Layout& layout) {
  std::string text = fmt::format("pp {} x tp {}", layout.pp, layout.tp);
  if (layout.ep != 1) text += fmt::format(", ep {}", layout.ep);
  if (layout.vision != 0) text += fmt::format(", vision {}", layout.vision);
  for (size_t i = 0; i < layout.stage_layers.size(); ++i) {
    text += fmt::format("{}{}", i == 0 ? ", stage layers " : "+", layout.stage_layers[i]);
  }
  if (layout.experts != WeightFormat::kStored) text += fmt::format(", experts {}", Name(layout.experts));
  if (layout.projections != WeightFormat::kStored) {
    text += fmt::format(", projections {}", Name(layout.projections));
  }
  return text;
}

absl::StatusOr<Plan> MakePlan(const ModelConfig& config, const Layout& layout) {
  if (absl::Status s = CheckLayout(config, layout); !s.ok()) {
    return InvalidArgument("{}{}", Message(s), Suggestions(config, layout));
  }
  Plan plan;
  plan.layout = layout;
  plan.ranks.reserve(static_cast<size_t>(layout.ranks()));
  for (int stage = 0; stage < layout.pp; ++stage) {
    for (int index = 0; index < layout.tp; ++index) {
      plan.ranks.push_back(LanguageRank(config, layout, stage, index));
    }
  }
  for (int i = 0; i < layout.vision; ++i) plan.ranks.push_back(VisionRank(layout, i));
  plan.hash = HashOfPlan(config, plan);
  return plan;
}

std::vector<Layout> PossibleLayouts(const ModelConfig& config, int ranks) {
  std::vector<Layout> found;
  for (int pp = 1; pp <= ranks; ++pp) {
    if (ranks % pp != 0) continue;
    const int tp = ranks / pp;
    for (int ep = 1; ep <= tp; ++ep) {
      const Layout layout{.pp = pp, .tp = tp, .ep = ep};
      if (CheckLayout(config, layout).ok()) found.push_back(layout);
    }
  }
  return found;
}

}  // namespace fulger
