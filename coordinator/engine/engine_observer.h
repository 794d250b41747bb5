// What the engine tells whoever measures it. Called on the engine thread; must not block.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "coordinator/engine/types.h"

namespace fulger {

// A plan that was made and handed to its replica. Valid during the call.
struct PlanRecord {
  size_t replica = 0;
  const v1::StepPlan& plan;
  TimePoint begin, end;
  // The request of a sequence that the plan names, as its client calls it.
  const std::function<std::string_view(uint64_t sequence)>& request_of;
};

struct StepRecord {
  size_t replica = 0;
  uint64_t epoch = 0;
  uint64_t step = 0;
  TimePoint answered{};  // and from then on it was applied, until `applied`
  TimePoint applied{};
  int64_t decode_rows = 0;
  int64_t prefill_tokens = 0;
  double seconds = 0;  // from its submission to its answer, other steps in flight included
  // Of the tokens that it brought, in seconds: since arrival for first ones, since the one before for others.
  std::span<const double> first_token, token_gap;
};

struct RequestRecord {
  std::string_view id, request;  // valid during the call
  TimePoint arrival{};
  Completion completion;
  int64_t max_tokens = 0;  // asked for
};

class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void OnPlan(const PlanRecord& /*record*/) {}
  virtual void OnStep(const StepRecord& record) = 0;
  virtual void OnRequestDone(const RequestRecord& record) = 0;
};

}  // namespace fulger
