// What a rank takes of its GPU's memory, decided before a weight is read: from the plan, the checkpoint's
// headers, and what is free. A GPU that holds too little is refused here, with the arithmetic.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "fulger/v1/control.pb.h"
#include "kernels/device/device_memory.h"
#include "model/config.h"
#include "model/layout.h"
#include "worker/exec/rank_runner.h"

namespace fulger {

struct DeviceRoom {
  std::string device;   // "cuda:0 (NVIDIA H100 80GB HBM3)"
  DeviceMemory memory;  // before this rank takes any
  int ranks = 1;        // that share the device; each may have its part of the whole
};

struct DeviceMemoryPlan {
  RunnerOptions options;
  std::string arithmetic;  // one line for the log
};

// Sizes of the caches: what `assign` asks for, or with cache_tokens 0 what is left of the free memory after
// weights, states, arena and reserve (no more than all sequences can use). Slots are given up for cache, down
// to min_sequences, until one sequence of some length fits. `held[i]`: how tensor i of the table lies in
// memory. RESOURCE_EXHAUSTED names every part, what is free, what is held by others, and the cure.
absl::StatusOr<DeviceMemoryPlan> PlanDeviceMemory(const ModelConfig& config, const Plan& plan, int rank,
                                                  const std::vector<TensorSpec>& table,
                                                  const std::vector<DType>& held, const v1::Assign& assign,
                                                  const DeviceRoom& room);

}  // namespace fulger
