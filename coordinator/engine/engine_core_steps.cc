// EngineCore: what is told of steps when they leave and when they are done.
#include "base/check.h"
#include "base/log.h"
#include "coordinator/engine/engine_core.h"

namespace fulger {

void EngineCore::ReportPlan(const Replica& replica, const v1::StepPlan& plan, TimePoint begin) {
  const std::function<std::string_view(uint64_t)> request_of =
      [planner = replica.planner.get()](uint64_t id) -> std::string_view {
    const Sequence* s = planner->Find(id);
    return s == nullptr ? std::string_view() : s->request;
  };
  observer_->OnPlan({.replica = IndexOf(replica),
                     .plan = plan,
                     .begin = begin,
                     .end = clock_->Now(),
                     .request_of = request_of});
}

void EngineCore::NoteProbe(Replica& replica, const v1::StepResult& result) {
  const std::string error = result.errors().empty() ? "" : result.errors(0).message();
  if (error != replica.probe_error) {
    if (error.empty()) {
      LogInfo("replica {}: probe steps pass again", replica.name);
    } else {
      LogError("replica {}: the probe step {} failed: {}", replica.name, result.step(), error);
    }
  }
  replica.probe_error = error;
}

void EngineCore::RecordStep(Replica& replica, uint64_t step, TimePoint answered) {
  replica.last_step = clock_->Now();
  std::deque<StepInfo>& steps = replica.steps;
  FULGER_CHECK(!steps.empty() && steps.front().step == step, "step {} was not submitted", step);
  const StepInfo info = steps.front();
  steps.pop_front();
  if (info.probe) return;
  ++totals_.steps;
  if (observer_ != nullptr) {
    observer_->OnStep({.replica = IndexOf(replica),
                       .epoch = replica.epoch,
                       .step = step,
                       .answered = answered,
                       .applied = replica.last_step,
                       .decode_rows = info.decode_rows,
                       .prefill_tokens = info.prefill_tokens,
                       .seconds = Seconds(replica.last_step - info.submitted),
                       .first_token = first_token_,
                       .token_gap = token_gap_});
  }
  first_token_.clear();
  token_gap_.clear();
}

}  // namespace fulger
