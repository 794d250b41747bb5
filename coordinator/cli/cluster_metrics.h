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
  struct Replica {
    Gauge ready, running, waiting;
  };
  struct Rank {
    Gauge up;
    Counter seconds, wait, idle;
  };
  void AddRank(MetricRegistry* registry, const MetricLabels& labels);
  void Collect();

  Deployment* deployment_;
  Gauge blocks_total_, blocks_used_, slots_total_, slots_used_, anchors_, blocks_cached_;
  Counter anchor_hits_, anchor_evictions_;
  Gauge step_age_;
  Counter restarts_, steps_, pictures_, pictures_encoded_;
  std::vector<Replica> replicas_;
  std::vector<Rank> ranks_;  // of replica 0, then of replica 1, ...
};

}  // namespace fulger
