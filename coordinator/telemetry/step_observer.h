// Where the engine's records go: into metrics always, into the timeline while somebody gathers one.
#pragma once

#include <optional>
#include <vector>

#include "coordinator/engine/engine_observer.h"
#include "coordinator/telemetry/timeline.h"
#include "model/config.h"
#include "model/cost/step_cost.h"
#include "model/layout.h"
#include "monitoring/metrics/step_metrics.h"

namespace fulger {

class StepObserver final : public EngineObserver {
 public:
  // Both must outlive the engine.
  StepObserver(MetricRegistry* registry, Timeline* timeline) : metrics_(registry), timeline_(timeline) {}

  // What steps cost is counted from now on. Before the engine gets requests.
  void SetModel(const ModelConfig& config, const Plan& plan, std::vector<RankMemory> memory);

  void OnPlan(const PlanRecord& record) override;
  void OnStep(const StepRecord& record) override;
  void OnRequestDone(const RequestRecord& record) override;

 private:
  struct Model {
    ModelConfig config;
    Plan plan;
    std::vector<RankMemory> memory;  // of index 0 of each stage
  };
  void CountWork(const v1::StepPlan& plan);

  StepMetrics metrics_;
  Timeline* const timeline_;
  std::optional<Model> model_;
  std::vector<StepShape> parts_;  // scratch
};

}  // namespace fulger
