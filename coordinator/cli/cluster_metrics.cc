#include "coordinator/cli/cluster_metrics.h"

#include "coordinator/engine/engine.h"

namespace fulger {

ClusterMetrics::ClusterMetrics(MetricRegistry* registry, Deployment* deployment)
    : deployment_(deployment),
      ready_(registry->AddGauge("fulger_replica_ready", "1 while the replica can run steps.")),
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
  for (int rank = 0; rank < deployment->plan().layout.ranks(); ++rank) {
    rank_up_.push_back(registry->AddGauge("fulger_rank_up", "1 while the rank is connected.",
                                          {{"rank", std::to_string(rank)}}));
  }
  registry->AddCollector([this] { Collect(); });
}

void ClusterMetrics::Collect() {
  const EngineStats stats = deployment_->engine().Stats();
  ready_.Set(stats.ready ? 1 : 0);
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
  const ReplicaInfo info = deployment_->cluster().replica().Info();
  restarts_.RaiseTo(static_cast<double>(info.restarts));
  for (const RankInfo& rank : info.ranks) {
    rank_up_[static_cast<size_t>(rank.rank)].Set(rank.joined ? 1 : 0);
  }
}

}  // namespace fulger
