// The bytes of weights that index 0 of a stage holds, layer by layer, so that every cut of the same tp and ep
// is a sum.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>
#include <vector>

#include "coordinator/planner/planned_model.h"
#include "model/layout.h"

namespace fulger {

class LayerWeights {
 public:
  struct Parts {
    std::vector<ComponentBytes> layers;
    ComponentBytes first{};   // embedding
    ComponentBytes last{};    // final norm and head
    ComponentBytes vision{};  // tower and projector
  };

  // The model must outlive this. `stored`: as in the files, instead of as in memory.
  LayerWeights(const PlannedModel& model, bool stored) : model_(model), stored_(stored) {}

  // The layout's pp and vision do not matter.
  const Parts& Of(const Layout& layout);
  // The same sum as RankWeightBytes of index 0 of that stage.
  ComponentBytes Stage(const Plan& plan, int stage);

 private:
  const PlannedModel& model_;
  const bool stored_;
  std::map<std::tuple<int, int, WeightFormat, WeightFormat>, Parts> parts_;
};

int64_t Sum(const ComponentBytes& bytes);

}  // namespace fulger
