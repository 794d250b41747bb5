// Metrics of replica and engine: gauges that are set when somebody scrapes.
#pragma once

#include <string>
#include <vector>

#include "coordinator/cli/deployment.h"
#include "monitoring/metrics/metrics.h"

namespace fulger {

class ClusterMetrics {
 public:
  // Both must outlive the last scrape.
  ClusterMetrics(MetricRegistry* registry, Deployment* deployment);
  ClusterMetrics(const ClusterMetrics&) = delete;
  ClusterMetrics& operator=(const ClusterMetrics&) = delete;

 private:
  void Collect();

  Deployment* deployment_;
  Gauge ready_, blocks_total_, blocks_used_, slots_total_, slots_used_, anchors_, blocks_cached_;
  Counter anchor_hits_, anchor_evictions_;
  Gauge step_age_;
  Counter restarts_, steps_, pictures_, pictures_encoded_;
  std::vector<Gauge> rank_up_;  // by rank
};

}  // namespace fulger
