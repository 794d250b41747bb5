// Where the engine's records go: into metrics always, into the timeline while somebody gathers one.
#pragma once

#include "coordinator/engine/engine_observer.h"
#include "coordinator/telemetry/timeline.h"
#include "monitoring/metrics/step_metrics.h"

namespace fulger {

class StepObserver final : public EngineObserver {
 public:
  // Both must outlive the engine.
  StepObserver(MetricRegistry* registry, Timeline* timeline) : metrics_(registry), timeline_(timeline) {}

  void OnPlan(const PlanRecord& record) override;
  void OnStep(const StepRecord& record) override;
  void OnRequestDone(const RequestRecord& record) override;

 private:
  StepMetrics metrics_;
  Timeline* const timeline_;
};

}  // namespace fulger
