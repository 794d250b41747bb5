// Metrics of replica and engine: gauges that are set when somebody scrapes.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "coordinator/cli/deployment.h"
#include "monitoring/metrics/metrics.h"

namespace fulger {

class ClusterMetrics {
 public:
  // Both must outlive the last scrape. `vllm_model`: the model's name if vLLM's names are wanted, else empty.
  ClusterMetrics(MetricRegistry* registry, Deployment* deployment, std::string vllm_model);
  ClusterMetrics(const ClusterMetrics&) = delete;
  ClusterMetrics& operator=(const ClusterMetrics&) = delete;

 private:
  struct Replica {
    Gauge ready, running, waiting;
    Counter start_failures;
    std::vector<Counter> expert_rows;  // by expert; once something was counted
  };
  struct Rank {
    MetricLabels labels;
    Gauge up, stalled, load, load_ratio, load_rate, load_bytes;
    Counter seconds, wait, collective, idle, collective_bytes, link_bytes, pictures, tiles, passes, encode;
    std::map<std::string, Gauge> memory;  // by component; once it is ready
    std::vector<Gauge> place;             // where it runs, or ran before it went; once it has joined
    std::vector<Gauge> device;            // memory of its GPU, and what is free of it; once it is ready
  };
  void AddRank(MetricRegistry* registry, const MetricLabels& labels);
  void Collect();
  void CollectEngine(const EngineStats& stats);
  void CollectRank(Rank& metrics, const RankInfo& rank);
  void ShowPlace(Rank& metrics, const RankInfo& rank);
  void ShowDevice(Rank& metrics, const RankInfo& rank);
  void CollectExperts(size_t replica, const ReplicaInfo& info);
  void ShowCacheConfig(const ReplicaCapacity& capacity);

  MetricRegistry* registry_;
  Deployment* deployment_;
  const std::string vllm_model_;
  std::vector<Gauge> cache_config_;  // once the capacity is known
  Gauge blocks_total_, blocks_used_, slots_total_, slots_used_, anchors_, blocks_cached_;
  Counter anchor_hits_, anchor_evictions_;
  Gauge step_age_;
  Counter restarts_, steps_, pictures_, pictures_encoded_, pictures_known_;
  Gauge pictures_encoding_, features_kept_, feature_bytes_;
  std::vector<Replica> replicas_;
  std::vector<Rank> ranks_;  // of replica 0, then of replica 1, ...
};

}  // namespace fulger
