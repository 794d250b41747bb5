#include <algorithm>
#include <nlohmann/json.hpp>

#include "coordinator/planner/plan_report.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

Json ToJson(const StepTime& t) {
  return {{"between_tokens_seconds", t.between_tokens()},
          {"latency_seconds", t.latency()},
          {"weights_seconds", t.weights},
          {"states_seconds", t.states},
          {"kv_seconds", t.kv},
          {"compute_seconds", t.compute},
          {"fixed_seconds", t.fixed},
          {"collectives_seconds", t.collectives},
          {"messages_seconds", t.messages},
          {"queue_seconds", t.queue},
          {"slowest_stage_seconds", t.slowest_stage},
          {"bubble_seconds", t.bubble}};
}

// The names under which a rank reports them (`bytes` in /v1/server_info).
Json ToJson(const RankMemory& m, bool language) {
  Json json;
  for (int c = 0; c < kComponents; ++c) {
    const int64_t bytes = m.weights[static_cast<size_t>(c)];
    if (bytes > 0) json[std::string(Name(static_cast<Component>(c)))] = bytes;
  }
  if (language) {
    json["kv"] = m.kv;
    json["slots"] = m.slots;
  }
  json["arena"] = m.arena;
  return json;
}

Json ToJson(const Layout& l) {
  return {{"pp", l.pp},
          {"tp", l.tp},
          {"ep", l.ep},
          {"vision_ranks", l.vision},
          {"stage_layers", l.stage_layers},
          {"experts", Name(l.experts)},
          {"projections", Name(l.projections)},
          {"ranks", l.ranks()}};
}

Json ToJson(const PlanReport& r, const Candidate& c, bool with_ranks) {
  Json json = {{"layout", ToJson(c.layout())},
               {"text", ToString(c.layout())},
               {"plan_hash", c.plan.hash},
               {"replicas", c.replicas},
               {"largest_rank_bytes", c.largest_rank},
               {"limit_bytes", c.limit},
               {"fits", c.fits}};
  if (!c.fits) json["refusal"] = c.refusal;
  json["most_sequences"] = c.most_sequences;
  json["longest_context"] = c.longest_context;
  json["decode_alone"] = ToJson(c.alone);
  json["decode_batch"] = ToJson(c.full);
  json["decode_batch"]["sequences"] = c.batch;
  json["decode_batch"]["groups"] = c.groups;
  json["tokens_per_second"] = c.tokens_per_second;
  json["first_token_seconds"] = c.first_token_seconds;
  json["load_seconds"] = c.load_seconds;
  if (!with_ranks) return json;
  json["serve_flags"] = ServeFlagsOf(r, c);
  const std::vector<RankMemory> ranks = MemoryOfRanks(r.model, c);
  for (size_t i = 0; i < ranks.size(); ++i) {
    const RankPlan& plan = c.plan.ranks[i];
    Json rank = {{"rank", plan.rank},
                 {"node", r.cluster.node_of(plan.rank)},
                 {"role", plan.vision_only ? "vision" : "language"}};
    if (!plan.vision_only) {
      rank["stage"] = plan.stage;
      rank["index"] = plan.index;
      rank["layers"] = {plan.layers.begin, plan.layers.end};
    }
    rank["bytes"] = ToJson(ranks[i], !plan.vision_only);
    rank["total_bytes"] = ranks[i].total();
    json["ranks"].push_back(std::move(rank));
  }
  return json;
}

}  // namespace

std::string PlanJson(const PlanReport& r, size_t most) {
  const Cluster& c = r.cluster;
  Json json = {{"model",
                {{"name", r.model.name},
                 {"type", r.model.config.model_type},
                 {"parameters", r.model.parameters()},
                 {"stored_bytes", r.model.stored_bytes()},
                 {"source", r.model.source}}},
               {"cluster",
                {{"device", c.device},
                 {"nodes", c.nodes},
                 {"ranks_per_node", c.ranks_per_node},
                 {"memory_bytes", c.memory_bytes},
                 {"reserve_bytes", c.reserve_bytes},
                 {"reserve_measured", false},
                 {"rates", c.source}}},
               {"goal", Name(r.wishes.goal)},
               {"context", r.wishes.context},
               {"layouts", Json::array()},
               {"refused", Json::array()}};
  for (size_t i = 0; i < r.found.fitting.size(); ++i) {
    json["layouts"].push_back(ToJson(r, r.found.fitting[i], i < most));
  }
  for (const Candidate& candidate : r.found.refused) json["refused"].push_back(ToJson(r, candidate, false));
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace fulger
