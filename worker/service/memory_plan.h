// How many cache blocks and slots a rank in host memory makes: what the coordinator asks for.
#pragma once

#include "base/status.h"
#include "fulger/v1/control.pb.h"
#include "model/config.h"
#include "model/layout.h"
#include "worker/exec/rank_runner.h"

namespace fulger {

// RESOURCE_EXHAUSTED shows the arithmetic when the caches alone exceed the memory that is free now.
absl::StatusOr<RunnerOptions> PlanMemory(const ModelConfig& config, const RankPlan& rank,
                                         const v1::Assign& assign);

}  // namespace fulger
