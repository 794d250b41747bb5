// Every layout of a model on a cluster: does it fit, what does it hold, how fast is a step; ranked for a
// goal. Pure: the same question has the same answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/planner/cluster.h"
#include "coordinator/planner/planned_model.h"
#include "model/cost/rank_memory.h"
#include "model/cost/step_cost.h"
#include "model/layout.h"

namespace fulger {

enum class PlanGoal { kLatency, kThroughput, kContext };
absl::StatusOr<PlanGoal> PlanGoalFromName(std::string_view name);  // latency, throughput, context
std::string_view Name(PlanGoal goal);

struct PlanWishes {
  PlanGoal goal = PlanGoal::kLatency;
  // 0 or unset: any.
  int tp = 0, pp = 0, ep = 0;
  int vision = -1;
  std::vector<int> stage_layers;
  std::vector<WeightFormat> experts = {WeightFormat::kStored, WeightFormat::kInt8};
  std::vector<WeightFormat> projections = {WeightFormat::kStored};
  int64_t context = 8192;  // tokens of each sequence, prompt and answer
  int64_t max_sequences = 32;
  int64_t anchors = 32;
  int64_t cache_tokens = 0;  // 0: max_sequences * context
  int64_t block_size = 16;
  int64_t max_step_tokens = 2048;
  int64_t prompt = 4096;      // for the time to the first token
  bool micro_batches = true;  // sequences take turns in the pipeline, as the scheduler plans them
};

// One layout of one replica, and as many replicas as the cluster holds.
struct Candidate {
  Plan plan;
  int replicas = 1;
  int64_t sequences = 0, anchors = 0;  // that it makes room for: as wished; for throughput, the most that fit
  CacheSizes sizes;                    // of those
  std::vector<RankMemory> stages;      // index 0 of each stage, which holds the most of it
  std::optional<RankMemory> vision;    // of a rank with the tower alone
  int64_t largest_rank = 0;            // bytes, without the reserve
  int64_t limit = 0;                   // what a rank may hold
  bool fits = false;
  std::string refusal;          // the arithmetic of what does not fit
  int64_t most_sequences = 0;   // of `context` tokens, without anchors
  int64_t longest_context = 0;  // of one sequence alone
  StepTime alone;               // decoding one sequence
  int64_t batch = 0;            // the sequences of `full`: what was wished, or what fits
  int64_t groups = 1;           // micro-batches of `full`
  StepTime full;
  double tokens_per_second = 0;    // of all replicas
  double first_token_seconds = 0;  // of a prompt alone
  double load_seconds = 0;

  const Layout& layout() const { return plan.layout; }
};

struct Candidates {
  std::vector<Candidate> fitting;  // best first
  std::vector<Candidate> refused;  // nearest first
};

// INVALID_ARGUMENT: no layout of that form exists for this model.
absl::StatusOr<Candidates> FindLayouts(const PlannedModel& model, const Cluster& cluster,
                                       const PlanWishes& wishes);

// How many nodes like these the model needs at least; 0: more than 64.
int FewestNodes(const PlannedModel& model, Cluster cluster, const PlanWishes& wishes);

// Bytes of every rank of a candidate, exactly as the ranks will report them.
std::vector<RankMemory> MemoryOfRanks(const PlannedModel& model, const Candidate& candidate);

}  // namespace fulger
