#include "coordinator/cli/cluster_metrics.h"

#include "coordinator/engine/engine.h"

namespace fulger {

ClusterMetrics::ClusterMetrics(MetricRegistry* registry, Deployment* deployment)
    : deployment_(deployment),
      blocks_total_(registry->AddGauge("fulger_kv_blocks", "KV cache blocks of the smallest rank.")),
      blocks_used_(registry->AddGauge("fulger_kv_blocks_used", "KV cache blocks in use.")),
      slots_total_(registry->AddGauge("fulger_state_slots", "Lightning state slots of the smallest rank.")),
      slots_used_(registry->AddGauge("fulger_state_slots_used", "Lightning state slots in use.")),
      anchors_(registry->AddGauge("fulger_anchors", "Saved prefixes that requests can continue from.")),
      blocks_cached_(
          registry->AddGauge("fulger_kv_blocks_cached", "KV cache blocks that only anchors hold.")),
      anchor_hits_(
          registry->AddCounter("fulger_anchor_hits_total", "Requests that continued from an anchor.")),
      anchor_evictions_(
          registry->AddCounter("fulger_anchor_evictions_total", "Anchors that made room for others.")),
      step_age_(registry->AddGauge("fulger_last_step_age_seconds",
                                   "Age of the last finished step; -1: none has finished yet.")),
      restarts_(registry->AddCounter("fulger_replica_restarts_total", "Replicas that failed.")),
      steps_(registry->AddCounter("fulger_steps_total", "Steps that have finished.")),
      pictures_(registry->AddCounter("fulger_pictures_total", "Pictures in requests.")),
      pictures_encoded_(registry->AddCounter(
          "fulger_pictures_encoded_total", "Pictures that were encoded: the others were kept from before.")) {
  for (size_t i = 0; i < deployment->replicas(); ++i) {
    const std::string replica = std::to_string(i);
    replicas_.push_back({.ready = registry->AddGauge("fulger_replica_ready", "1 while it can run steps.",
                                                     {{"replica", replica}}),
                         .running = registry->AddGauge("fulger_replica_running", "Requests that run there.",
                                                       {{"replica", replica}}),
                         .waiting = registry->AddGauge("fulger_replica_waiting", "Requests that wait there.",
                                                       {{"replica", replica}})});
    for (int rank = 0; rank < deployment->plan().layout.ranks(); ++rank) {
      AddRank(registry, {{"replica", replica}, {"rank", std::to_string(rank)}});
    }
  }
  registry->AddCollector([this] { Collect(); });
}

void ClusterMetrics::AddRank(MetricRegistry* registry, const MetricLabels& labels) {
  ranks_.push_back(
      {.up = registry->AddGauge("fulger_rank_up", "1 while the rank is connected.", labels),
       .seconds = registry->AddCounter("fulger_rank_step_seconds_total", "Spent in steps.", labels),
       .wait = registry->AddCounter("fulger_rank_wait_seconds_total",
                                    "Of those: waiting for the stage before, sampled tokens or features.",
                                    labels),
       .idle = registry->AddCounter("fulger_rank_idle_seconds_total",
                                    "Between steps, without one to run although sequences were decoding.",
                                    labels)});
}

void ClusterMetrics::Collect() {
  const EngineStats stats = deployment_->engine().Stats();
  blocks_total_.Set(static_cast<double>(stats.blocks_total));
  blocks_used_.Set(static_cast<double>(stats.blocks_used));
  slots_total_.Set(static_cast<double>(stats.slots_total));
  slots_used_.Set(static_cast<double>(stats.slots_used));
  anchors_.Set(static_cast<double>(stats.anchors));
  blocks_cached_.Set(static_cast<double>(stats.blocks_cached));
  anchor_hits_.RaiseTo(static_cast<double>(stats.anchor_hits));
  anchor_evictions_.RaiseTo(static_cast<double>(stats.anchor_evictions));
  step_age_.Set(stats.seconds_since_step);
  steps_.RaiseTo(static_cast<double>(stats.steps));
  pictures_.RaiseTo(static_cast<double>(stats.pictures));
  pictures_encoded_.RaiseTo(static_cast<double>(stats.pictures_encoded));
  uint64_t restarts = 0;
  size_t next = 0;  // of ranks_
  for (size_t i = 0; i < replicas_.size(); ++i) {
    if (i < stats.replicas.size()) {
      replicas_[i].ready.Set(stats.replicas[i].ready ? 1 : 0);
      replicas_[i].running.Set(static_cast<double>(stats.replicas[i].running));
      replicas_[i].waiting.Set(static_cast<double>(stats.replicas[i].waiting));
    }
    const ReplicaInfo info = deployment_->replica(i).Info();
    restarts += info.restarts;
    for (const RankInfo& rank : info.ranks) {
      Rank& metrics = ranks_[next++];
      metrics.up.Set(rank.joined ? 1 : 0);
      metrics.seconds.RaiseTo(rank.times.total);
      metrics.wait.RaiseTo(rank.times.wait);
      metrics.idle.RaiseTo(rank.times.idle);
    }
  }
  restarts_.RaiseTo(static_cast<double>(restarts));
}

}  // namespace fulger
