#include "coordinator/planner/layer_weights.h"

#include <numeric>

#include "base/check.h"

namespace fulger {
namespace {

void Add(const ComponentBytes& from, ComponentBytes* to) {
  for (size_t c = 0; c < from.size(); ++c) (*to)[c] += from[c];
}

}  // namespace

int64_t Sum(const ComponentBytes& bytes) { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

const LayerWeights::Parts& LayerWeights::Of(const Layout& layout) {
  const auto key = std::make_tuple(layout.tp, layout.ep, layout.experts, layout.projections);
  if (const auto found = parts_.find(key); found != parts_.end()) return found->second;
  const auto plan = MakePlan(
      model_.config,
      {.tp = layout.tp, .ep = layout.ep, .experts = layout.experts, .projections = layout.projections});
  FULGER_CHECK(plan.ok(), "{}", Message(plan.status()));
  RankPlan rank = plan->ranks[0];
  if (stored_) rank.expert_format = rank.projection_format = WeightFormat::kStored;
  const auto bytes_of = [&](Range layers, bool first, bool last, bool vision) {
    RankPlan part = rank;
    part.layers = layers;
    part.first_stage = first;
    part.last_stage = last;
    part.holds_vision = vision;
    return RankWeightBytes(model_.table, part, stored_ ? model_.stored : model_.held);
  };
  Parts parts;
  for (int64_t l = 0; l < model_.config.text.layers(); ++l) {
    parts.layers.push_back(bytes_of({l, l + 1}, false, false, false));
  }
  parts.first = bytes_of({0, 0}, true, false, false);
  parts.last = bytes_of({0, 0}, false, true, false);
  if (model_.config.vision) parts.vision = bytes_of({0, 0}, false, false, true);
  return parts_[key] = std::move(parts);
}

ComponentBytes LayerWeights::Stage(const Plan& plan, int stage) {
  const Parts& parts = Of(plan.layout);
  const RankPlan& rank = plan.ranks[static_cast<size_t>(plan.stage_rank(stage, 0))];
  ComponentBytes sum{};
  for (int64_t l = rank.layers.begin; l < rank.layers.end; ++l) {
    Add(parts.layers[static_cast<size_t>(l)], &sum);
  }
  if (rank.first_stage) Add(parts.first, &sum);
  if (rank.last_stage) Add(parts.last, &sum);
  if (rank.holds_vision) Add(parts.vision, &sum);
  return sum;
}

}  // namespace fulger
