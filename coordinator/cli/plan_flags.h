// What `plan` and `submit` ask the planner.
#pragma once

#include <CLI/App.hpp>

#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/planner/search.h"

namespace fulger {

struct PlanFlags {
  std::string model = "minimax-vl-01";
  std::string cluster_file;
  int nodes = 0;  // 0: as the cluster file says, or 1
  int gpus_per_node = 8;
  std::string gpu;
  int cpu_ranks = 0;  // per node
  double reserve_gib = -1;
  double storage_gb = 0;
  std::string goal = "latency";
  std::string experts = "any";
  std::string projections = "stored";
  std::string weight_dtype = "keep";
  PlanWishes wishes;
};
void AddPlanFlags(CLI::App* app, PlanFlags* flags);

struct PlanInputs {
  PlannedModel model;
  Cluster cluster;
  PlanWishes wishes;
};
absl::StatusOr<PlanInputs> LoadPlanInputs(const PlanFlags& flags);

}  // namespace fulger
