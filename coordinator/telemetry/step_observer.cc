#include "coordinator/telemetry/step_observer.h"

#include <utility>

namespace fulger {

void StepObserver::SetModel(const ModelConfig& config, const Plan& plan, std::vector<RankMemory> memory) {
  model_ = Model{.config = config, .plan = plan, .memory = std::move(memory)};
}

// All that decode are one part, with the mean of their contexts.
void StepObserver::CountWork(const v1::StepPlan& plan) {
  parts_.assign(1, {.sequences = 0, .rows = 1, .context = 0});
  for (const v1::Row& row : plan.rows()) {
    if (row.count() == 1) {
      ++parts_[0].sequences;
      parts_[0].context += row.position();
    } else {
      parts_.push_back({.sequences = 1, .rows = row.count(), .context = row.position() + row.count() / 2});
    }
  }
  if (parts_[0].sequences == 0) {
    parts_.erase(parts_.begin());
  } else {
    parts_[0].context /= parts_[0].sequences;
  }
  if (parts_.empty()) return;
  const StepWork work = WorkOfStep(model_->config, model_->plan, model_->memory, parts_);
  metrics_.flops.Add(work.flops);
  metrics_.weight_bytes.Add(work.weights);
  metrics_.state_bytes.Add(work.states);
  metrics_.kv_bytes.Add(work.kv);
}

void StepObserver::OnPlan(const PlanRecord& record) {
  if (model_) CountWork(record.plan);
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
