// What the engine tells whoever measures it. Called on the engine thread; must not block.
#pragma once

#include <cstdint>
#include <span>

#include "coordinator/engine/types.h"

namespace fulger {

struct StepRecord {
  uint64_t step = 0;
  int64_t decode_rows = 0;
  int64_t prefill_tokens = 0;
  double seconds = 0;  // from its submission to its answer, other steps in flight included
  // Of the tokens that it brought, in seconds: since arrival for first ones, since the one before for others.
  std::span<const double> first_token, token_gap;
};

// Times in seconds; a phase that was never reached is 0. queue: arrival to first plan; prefill: to the first
// token; decode: to the last one; they do not overlap.
struct RequestRecord {
  Completion completion;
  int64_t max_tokens = 0;  // asked for
  double queue = 0, prefill = 0, decode = 0;
  double total = 0;  // arrival to end
};

class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnStep(const StepRecord& record) = 0;
  virtual void OnRequestDone(const RequestRecord& record) = 0;
};

}  // namespace fulger
