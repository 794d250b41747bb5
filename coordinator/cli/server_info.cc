#include "coordinator/cli/server_info.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/version.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const Range& range) { return Json::array({range.begin, range.end}); }

Json LayoutJson(const Layout& layout) {
  return {{"pp", layout.pp},
          {"tp", layout.tp},
          {"ep", layout.ep},
          {"vision_ranks", layout.vision},
          {"stage_layers", layout.stage_layers},
          {"ranks", layout.ranks()}};
}

Json LayerKindsJson(const TextConfig& text) {
  Json kinds = Json::array();
  for (const LayerKind kind : text.layer_kinds) {
    kinds.push_back(kind == LayerKind::kSoftmax ? "softmax" : "lightning");
  }
  return kinds;
}

// Ranges are [begin, end).
Json RankJson(const RankPlan& plan, const RankInfo& info, size_t replica) {
  Json json = {
      {"replica", replica}, {"rank", info.rank}, {"joined", info.joined}, {"phase", info.phase},
      {"host", info.host},  {"pid", info.pid},   {"device", info.device}, {"description", info.description}};
  if (info.device_bytes > 0) {
    json["device_model"] = info.device_model;
    json["device_bytes"] = info.device_bytes;
    json["device_free_bytes"] = info.device_free_bytes;
  }
  if (plan.vision_only) {
    json["role"] = "vision";
  } else {
    json["role"] = "language";
    json["stage"] = plan.stage;
    json["index"] = plan.index;
    json["layers"] = ToJson(plan.layers);
    json["query_heads"] = ToJson(plan.query_heads);
    json["kv_heads"] = ToJson(plan.kv_heads);
    json["experts"] = ToJson(plan.experts);
    json["expert_columns"] = ToJson(plan.expert_columns);
    json["vocabulary"] = ToJson(plan.vocab);
  }
  json["holds_vision"] = plan.holds_vision;
  json["progress"] = info.fraction;
  json["activity"] = info.activity;
  json["bytes"] = info.bytes;
  json["bytes_read"] = info.bytes_read;
  json["load"] = {{"ratio", info.load_ratio},
                  {"bytes_per_second", info.load_rate},
                  {"seconds_left", info.load_seconds_left},
                  {"seconds", info.load_seconds}};
  json["steps"] = {{"count", info.times.steps},
                   {"seconds", info.times.total},
                   {"wait_seconds", info.times.wait},
                   {"collective_seconds", info.times.collective},
                   {"idle_seconds", info.times.idle}};
  return json;
}

}  // namespace

std::string ServerInfoJson(Deployment& deployment, const std::string& model_name) {
  const DeploymentFlags& flags = deployment.flags();
  const Plan& plan = deployment.plan();
  Json json = {{"version", kVersion},
               {"model",
                {{"name", model_name},
                 {"type", deployment.config().model_type},
                 {"path", flags.model_dir},
                 {"fingerprint", deployment.fingerprint()},
                 {"vision", deployment.config().vision.has_value()},
                 {"layers", LayerKindsJson(deployment.config().text)}}},
               {"device", flags.device},
               {"transport", deployment.transport()},
               {"dtypes",
                {{"weights", flags.weight_dtype},
                 {"experts", Name(plan.layout.experts)},
                 {"projections", Name(plan.layout.projections)},
                 {"activations", "f32"},
                 {"cache", "f32"}}},
               {"layout", LayoutJson(plan.layout)},
               {"plan_hash", plan.hash},
               {"limits",
                {{"max_context", deployment.budget().max_context},
                 {"cache_tokens", deployment.budget().cache_tokens},
                 {"block_size", flags.block_size},
                 {"max_sequences", flags.max_sequences},
                 {"max_queued_requests", flags.max_queued_requests},
                 {"anchors", flags.anchors},
                 {"anchor_interval", flags.anchor_interval},
                 {"max_step_tokens", flags.max_step_tokens},
                 {"feature_cache_bytes", flags.feature_cache_mib << 20}}},
               {"replicas", Json::array()},
               {"ranks", Json::array()}};
  const EngineStats stats = deployment.engine().Stats();
  for (size_t i = 0; i < deployment.replicas(); ++i) {
    const ReplicaInfo info = deployment.replica(i).Info();
    const ReplicaStats requests = i < stats.replicas.size() ? stats.replicas[i] : ReplicaStats{};
    // Of GPU ranks: what they have found room for.
    if (const int64_t tokens = info.capacity.blocks * info.capacity.block_size;
        deployment.budget().cache_tokens == 0 && tokens > 0) {
      Json& limits = json["limits"];
      limits["cache_tokens"] = std::max(limits["cache_tokens"].get<int64_t>(), tokens);
      limits["max_context"] =
          std::min(deployment.budget().max_context, limits["cache_tokens"].get<int64_t>());
    }
    json["replicas"].push_back({{"phase", Name(info.phase)},
                                {"epoch", info.epoch},
                                {"restarts", info.restarts},
                                {"last_failure", info.last_failure},
                                {"cache_tokens", info.capacity.blocks * info.capacity.block_size},
                                {"slots", info.capacity.slots},
                                {"running", requests.running},
                                {"waiting", requests.waiting},
                                {"anchors", requests.anchors}});
    for (const RankInfo& rank : info.ranks) {
      json["ranks"].push_back(RankJson(plan.ranks[static_cast<size_t>(rank.rank)], rank, i));
    }
  }
  // Activities come from workers: whatever they say must not end the server.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fulger
