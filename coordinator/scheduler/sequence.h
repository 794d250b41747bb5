// One request as the planner sees it, from its arrival to its end, through any number of admissions.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/scheduler/token_mask.h"
#include "fulger/v1/step.pb.h"

namespace fulger {

// ids[position .. position + rows) are placeholders whose embeddings are the packed features `key`.
struct ImageRun {
  std::string key;
  int64_t position = 0;
  int64_t rows = 0;
};

// Owned by the engine, touched by the engine thread only.
struct Sequence {
  // Set before StepPlanner::Add.
  uint64_t order = 0;        // arrival; unique, smaller is older
  std::vector<int32_t> ids;  // the prompt, then every token sampled so far
  int64_t prompt_count = 0;
  int64_t max_length = 0;  // prompt and completion together
  v1::SamplingParams sampling;
  std::vector<ImageRun> images;  // ascending
  // Of an answer that must follow a grammar: which tokens the one at `mask_position` may be. The engine sets
  // the mask of the next position when the token before is known and the mask is made.
  bool constrained = false;
  int64_t mask_position = -1;
  std::shared_ptr<const TokenMask> mask;

  // The current admission; the planner's. `id` is new with every admission, so that a late answer can never
  // be taken for a newer one.
  enum class Phase : uint8_t { kIdle, kWaiting, kRunning };
  Phase phase = Phase::kIdle;
  uint64_t id = 0;
  int64_t known = 0;    // ids told to the workers
  int64_t planned = 0;  // positions in plans
  uint64_t sampled_by = 0;
  uint64_t last_step = 0;
  int64_t in_flight = 0;  // rows in steps that have not answered
  std::vector<int32_t> blocks;
  int32_t slot = -1;

  // The replica that held it is gone.
  void Forget() {
    phase = Phase::kIdle;
    id = sampled_by = last_step = 0;
    known = planned = in_flight = 0;
    blocks.clear();
    slot = -1;
  }
  // Whether the token at `position` may be drawn.
  bool MayDraw(int64_t position) const { return !constrained || mask_position == position; }
  int64_t generated() const { return static_cast<int64_t>(ids.size()) - prompt_count; }
};

}  // namespace fulger
