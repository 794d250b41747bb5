#include "coordinator/telemetry/step_observer.h"

namespace fulger {

void StepObserver::OnPlan(const PlanRecord& record) {
  if (timeline_->gathering()) timeline_->AddPlan(record);
}

void StepObserver::OnStep(const StepRecord& record) {
  metrics_.step_tokens.Observe(static_cast<double>(record.decode_rows + record.prefill_tokens));
  const Histogram& seconds = record.prefill_tokens == 0 ? metrics_.decode_step
                             : record.decode_rows == 0  ? metrics_.prefill_step
                                                        : metrics_.mixed_step;
  seconds.Observe(record.seconds);
  if (timeline_->gathering()) timeline_->AddUpdate(record);
}

void StepObserver::OnRequestDone(const RequestRecord& record) {
  if (timeline_->gathering()) timeline_->AddRequest(record);
  const FinishReason reason = record.completion.reason;
  if (reason == FinishReason::kCancelled || reason == FinishReason::kError) return;
  const RequestTimes& times = record.completion.times;
  metrics_.request_queue.Observe(times.queue);
  metrics_.request_prefill.Observe(times.prefill);
  metrics_.request_decode.Observe(times.decode);
  metrics_.request_inference.Observe(times.prefill + times.decode);
}

}  // namespace fulger
