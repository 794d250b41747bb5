#include "coordinator/cli/cluster_metrics.h"

#include <algorithm>
#include <utility>

#include "coordinator/engine/engine.h"

namespace fulger {

ClusterMetrics::ClusterMetrics(MetricRegistry* registry, Deployment* deployment, std::string vllm_model)
    : registry_(registry),
      deployment_(deployment),
      vllm_model_(std::move(vllm_model)),
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
          "fulger_pictures_encoded_total", "Pictures that were encoded: the others were kept from before.")),
      pictures_known_(registry->AddCounter("fulger_pictures_known_total",
                                           "Pictures whose features were there when their request came.")),
      pictures_encoding_(registry->AddGauge("fulger_pictures_encoding", "Pictures at the vision stage.")),
      features_kept_(registry->AddGauge("fulger_pictures_kept", "Pictures whose features are kept.")),
      feature_bytes_(
          registry->AddGauge("fulger_feature_cache_bytes", "Features of pictures, kept or coming.")) {
  for (size_t i = 0; i < deployment->replicas(); ++i) {
    const std::string replica = std::to_string(i);
    replicas_.push_back({.ready = registry->AddGauge("fulger_replica_ready", "1 while it can run steps.",
                                                     {{"replica", replica}}),
                         .running = registry->AddGauge("fulger_replica_running", "Requests that run there.",
                                                       {{"replica", replica}}),
                         .waiting = registry->AddGauge("fulger_replica_waiting", "Requests that wait there.",
                                                       {{"replica", replica}}),
                         .start_failures = registry->AddCounter(
                             "fulger_replica_start_failures_total",
                             "Replicas that failed before they could serve.", {{"replica", replica}}),
                         .expert_rows = {}});
    for (int rank = 0; rank < deployment->plan().layout.ranks(); ++rank) {
      AddRank(registry, {{"replica", replica}, {"rank", std::to_string(rank)}});
    }
  }
  registry->AddCollector([this] { Collect(); });
}

void ClusterMetrics::AddRank(MetricRegistry* registry, const MetricLabels& labels) {
  const auto counter = [&](const char* name, const char* help) {
    return registry->AddCounter(name, help, labels);
  };
  const auto gauge = [&](const char* name, const char* help) {
    return registry->AddGauge(name, help, labels);
  };
  ranks_.push_back(
      {.labels = labels,
       .up = gauge("fulger_rank_up", "1 while the rank is connected."),
       .stalled = gauge("fulger_rank_stalled_seconds",
                        "Since the rank, which others wait for, has moved on; about 0 while nobody waits."),
       .load = gauge("fulger_rank_load_seconds", "Took the rank's weights to load."),
       .load_ratio = gauge("fulger_rank_load_ratio", "How much of the rank's weights is loaded, 0 to 1."),
       .load_rate = gauge("fulger_rank_load_bytes_per_second",
                          "Of the rank's weights since its load began; 0 while it does not load."),
       .load_bytes =
           gauge("fulger_rank_load_bytes", "Read from the checkpoint for the rank, once it is loaded."),
       .seconds = counter("fulger_rank_step_seconds_total", "Spent in steps."),
       .wait = counter("fulger_rank_wait_seconds_total",
                       "Of those: waiting for the stage before, sampled tokens or features."),
       .collective = counter("fulger_rank_collective_seconds_total",
                             "Of those: in collectives of the stage, slower ranks included; not on GPUs."),
       .idle = counter("fulger_rank_idle_seconds_total",
                       "Between steps, without one to run although sequences were decoding."),
       .collective_bytes =
           counter("fulger_rank_collective_bytes_total", "Handed to collectives of the stage."),
       .link_bytes = counter("fulger_rank_link_bytes_total",
                             "Sent to other ranks: hidden states, sampled tokens, features."),
       .pictures = counter("fulger_rank_pictures_total", "Pictures that the rank encoded."),
       .tiles = counter("fulger_rank_tiles_total", "Tiles of pictures that the rank ran."),
       .passes = counter("fulger_rank_vision_passes_total",
                         "Passes of the vision tower; pictures that wait together share one."),
       .encode = counter("fulger_rank_encode_seconds_total", "Spent encoding pictures."),
       .memory = {},
       .place = {},
       .device = {}});
}

void ClusterMetrics::CollectEngine(const EngineStats& stats) {
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
  pictures_known_.RaiseTo(static_cast<double>(stats.pictures_known));
  pictures_encoding_.Set(static_cast<double>(stats.pictures_encoding));
  features_kept_.Set(static_cast<double>(stats.features_kept));
  feature_bytes_.Set(static_cast<double>(stats.feature_bytes));
}

void ClusterMetrics::CollectRank(Rank& metrics, const RankInfo& rank) {
  metrics.up.Set(rank.joined ? 1 : 0);
  metrics.stalled.Set(rank.stalled_seconds);
  metrics.load.Set(rank.load_seconds);
  metrics.load_ratio.Set(rank.load_ratio);
  metrics.load_rate.Set(rank.load_rate);
  metrics.load_bytes.Set(static_cast<double>(rank.bytes_read));
  for (const auto& [component, bytes] : rank.bytes) {
    if (!metrics.memory.contains(component)) {
      MetricLabels labels = metrics.labels;
      labels.emplace_back("component", component);
      metrics.memory.emplace(component, registry_->AddGauge("fulger_rank_memory_bytes",
                                                            "Held on the rank, by what it is for.", labels));
    }
    metrics.memory.at(component).Set(static_cast<double>(bytes));
  }
  if (rank.joined) ShowPlace(metrics, rank);
  if (rank.device_bytes > 0) ShowDevice(metrics, rank);
  const RankTimes& times = rank.times;
  metrics.seconds.RaiseTo(times.total);
  metrics.wait.RaiseTo(times.wait);
  metrics.collective.RaiseTo(times.collective);
  metrics.idle.RaiseTo(times.idle);
  metrics.collective_bytes.RaiseTo(static_cast<double>(times.collective_bytes));
  metrics.link_bytes.RaiseTo(static_cast<double>(times.link_bytes));
  metrics.pictures.RaiseTo(static_cast<double>(times.pictures));
  metrics.tiles.RaiseTo(static_cast<double>(times.tiles));
  metrics.passes.RaiseTo(static_cast<double>(times.passes));
  metrics.encode.RaiseTo(times.encode);
}

// Constants are labels, as is the custom. A rank that has moved is another series.
void ClusterMetrics::ShowPlace(Rank& metrics, const RankInfo& rank) {
  MetricLabels labels = metrics.labels;
  labels.emplace_back("host", rank.host);
  labels.emplace_back("device", rank.device);
  if (!rank.device_model.empty()) labels.emplace_back("model", rank.device_model);
  std::vector<Gauge> place = {registry_->AddGauge(
      "fulger_rank_info", "Always 1; the labels say where the rank runs, or ran.", labels)};
  place.front().Set(1);
  metrics.place = std::move(place);  // the same handle, unless something has changed
}

// GPUs only: a CPU's memory is the host's, which others watch.
void ClusterMetrics::ShowDevice(Rank& metrics, const RankInfo& rank) {
  if (metrics.device.empty()) {
    metrics.device = {
        registry_->AddGauge("fulger_rank_device_memory_bytes", "Memory of the rank's GPU.", metrics.labels),
        registry_->AddGauge("fulger_rank_device_free_bytes", "Of it, free when the rank had taken its part.",
                            metrics.labels)};
  }
  metrics.device[0].Set(static_cast<double>(rank.device_bytes));
  metrics.device[1].Set(static_cast<double>(rank.device_free_bytes));
}

void ClusterMetrics::CollectExperts(size_t replica, const ReplicaInfo& info) {
  std::vector<uint64_t> rows;
  for (const RankInfo& rank : info.ranks) {
    rows.resize(std::max(rows.size(), rank.times.expert_rows.size()));
    for (size_t i = 0; i < rank.times.expert_rows.size(); ++i) rows[i] += rank.times.expert_rows[i];
  }
  std::vector<Counter>& counters = replicas_[replica].expert_rows;
  for (size_t i = counters.size(); i < rows.size(); ++i) {
    counters.push_back(registry_->AddCounter(
        "fulger_expert_rows_total", "Rows that the router sent to the expert, all layers together.",
        {{"replica", std::to_string(replica)}, {"expert", std::to_string(i)}}));
  }
  for (size_t i = 0; i < rows.size(); ++i) counters[i].RaiseTo(static_cast<double>(rows[i]));
}

// A rebuilt replica may have another capacity: that is another series.
void ClusterMetrics::ShowCacheConfig(const ReplicaCapacity& capacity) {
  if (capacity.blocks == 0) return;
  std::vector<Gauge> shown;
  const std::string block_size = std::to_string(capacity.block_size),
                    blocks = std::to_string(capacity.blocks);
  const int64_t anchors = deployment_->flags().anchors;
  shown.push_back(registry_->AddGauge("fulger_cache_config_info",
                                      "Always 1; the labels say what caches a replica has.",
                                      {{"block_size", block_size},
                                       {"blocks", blocks},
                                       {"slots", std::to_string(capacity.slots)},
                                       {"anchors", std::to_string(anchors)}}));
  if (!vllm_model_.empty()) {
    shown.push_back(registry_->AddGauge("vllm:cache_config_info", "Always 1; the labels say it.",
                                        {{"block_size", block_size},
                                         {"num_gpu_blocks", blocks},
                                         {"enable_prefix_caching", anchors > 0 ? "True" : "False"},
                                         {"model_name", vllm_model_},
                                         {"engine", "0"}}));
  }
  for (Gauge& gauge : shown) gauge.Set(1);
  cache_config_ = std::move(shown);  // the same handles, unless something has changed
}

void ClusterMetrics::Collect() {
  const EngineStats stats = deployment_->engine().Stats();
  CollectEngine(stats);
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
    replicas_[i].start_failures.RaiseTo(static_cast<double>(info.start_failures));
    for (const RankInfo& rank : info.ranks) CollectRank(ranks_[next++], rank);
    CollectExperts(i, info);
    if (i == 0) ShowCacheConfig(info.capacity);
  }
  restarts_.RaiseTo(static_cast<double>(restarts));
}

}  // namespace fulger
