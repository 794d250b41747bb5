#include "coordinator/telemetry/timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace fulger {
namespace {

constexpr int kCoordinator = 1, kFirstReplica = 2;  // processes
constexpr int kEngineThread = 1;
constexpr size_t kMostRequests = 64;   // named in one step
constexpr size_t kMostBatches = 1024;  // far more than there are steps in flight

double Micros(TimePoint at) { return Seconds(at.time_since_epoch()) * 1e6; }

// The steps of all replicas and epochs are one space of arrows.
std::string ArrowId(const std::tuple<int, uint64_t, uint64_t>& step) {
  return fmt::format("{}.{}.{}", std::get<0>(step), std::get<1>(step), std::get<2>(step));
}

nlohmann::json BatchOf(const PlanRecord& record) {
  int64_t decode = 0, prefill = 0;
  nlohmann::json requests = nlohmann::json::array();
  for (const v1::Row& row : record.plan.rows()) {
    (row.result_of_step() != 0 ? decode : prefill) += row.count();
    if (requests.size() < kMostRequests) requests.push_back(std::string(record.request_of(row.sequence())));
  }
  return {{"step", record.plan.step()},
          {"epoch", record.plan.epoch()},
          {"decode_rows", decode},
          {"prefill_tokens", prefill},
          {"sequences", record.plan.rows_size()},
          {"requests", std::move(requests)}};
}

}  // namespace

bool Timeline::Start(TimePoint now) {
  std::lock_guard lock(mu_);
  if (gathering_) return false;
  since_ = now;
  events_.clear();
  left_out_ = 0;
  batches_.clear();
  ranks_seen_.clear();
  gathering_ = true;
  return true;
}

void Timeline::Add(const Json& event) {
  if (events_.size() >= kMostBytes) {
    ++left_out_;
    return;
  }
  if (!events_.empty()) events_ += ",\n";
  events_ += event.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Timeline::AddSpan(int process, int thread, const std::string& name, double begin, double end,
                       Json args) {
  Add({{"ph", "X"},
       {"pid", process},
       {"tid", thread},
       {"cat", "step"},
       {"name", name},
       {"ts", begin},
       {"dur", std::max(0.0, end - begin)},
       {"args", std::move(args)}});
}

// s: begins, t: passes, f: ends. Bound to the span around `at`.
void Timeline::AddArrow(const char* phase, const StepKey& step, int process, int thread, double at) {
  Json event = {{"ph", phase},    {"pid", process}, {"tid", thread},      {"cat", "flow"},
                {"name", "step"}, {"ts", at},       {"id", ArrowId(step)}};
  if (*phase == 'f') event["bp"] = "e";
  Add(event);
}

void Timeline::AddPlan(const PlanRecord& record) {
  std::lock_guard lock(mu_);
  if (!gathering_) return;
  const int replica = static_cast<int>(record.replica);
  const StepKey key{replica, record.plan.epoch(), record.plan.step()};
  Json batch = BatchOf(record);
  const double begin = Micros(record.begin);
  batch["replica"] = replica;
  if (record.plan.probe()) batch["probe"] = true;
  AddSpan(kCoordinator, kEngineThread, fmt::format("plan step {}", record.plan.step()), begin,
          Micros(record.end), batch);
  AddArrow("s", key, kCoordinator, kEngineThread, begin);
  Add({{"ph", "C"},
       {"pid", kFirstReplica + replica},
       {"name", "batch"},
       {"ts", begin},
       {"args", {{"decode_rows", batch["decode_rows"]}, {"prefill_tokens", batch["prefill_tokens"]}}}});
  batch.erase("requests");
  batches_[key] = std::move(batch);
  if (batches_.size() > kMostBatches) batches_.erase(batches_.begin());
}

void Timeline::AddUpdate(const StepRecord& record) {
  std::lock_guard lock(mu_);
  if (!gathering_) return;
  const int replica = static_cast<int>(record.replica);
  const StepKey key{replica, record.epoch, record.step};
  const double begin = Micros(record.answered);
  AddSpan(kCoordinator, kEngineThread, fmt::format("update step {}", record.step), begin,
          Micros(record.applied),
          {{"step", record.step},
           {"replica", replica},
           {"tokens", record.first_token.size() + record.token_gap.size()}});
  if (batches_.contains(key)) AddArrow("f", key, kCoordinator, kEngineThread, begin);
}

// Nested asynchronous spans, one track for each request. A request that came before the trace began shows
// where it came from all the same.
void Timeline::AddRequest(const RequestRecord& record) {
  std::lock_guard lock(mu_);
  if (!gathering_) return;
  const RequestTimes& times = record.completion.times;
  const std::string id(record.id);
  const auto mark = [&](const char* phase, const std::string& name, double at, Json args) {
    Add({{"ph", phase},
         {"pid", kCoordinator},
         {"tid", kEngineThread},
         {"cat", "request"},
         {"id", id},
         {"name", name},
         {"ts", at},
         {"args", std::move(args)}});
  };
  const std::string name = fmt::format("request {}", record.request);
  double at = Micros(record.arrival);
  const double end = at + times.total * 1e6;
  mark("b", name, at,
       {{"prompt_tokens", record.completion.prompt_tokens},
        {"cached_tokens", record.completion.cached_tokens},
        {"completion_tokens", record.completion.completion_tokens}});
  for (const auto& [phase, seconds] : {std::pair("queue", times.queue), std::pair("prefill", times.prefill),
                                       std::pair("decode", times.decode)}) {
    if (seconds <= 0) continue;
    mark("b", phase, at, Json::object());
    at = std::min(end, at + seconds * 1e6);
    mark("e", phase, at, Json::object());
  }
  mark("e", name, end, Json::object());
}

void Timeline::OnTiming(const std::string& replica_name, uint64_t epoch, const v1::RankTiming& timing,
                        double clock_offset) {
  std::lock_guard lock(mu_);
  if (!gathering_) return;
  const int replica = std::atoi(replica_name.c_str());  // replicas are named by number
  const int process = kFirstReplica + replica, thread = timing.rank();
  ranks_seen_.emplace(replica, thread);
  const double begin = (timing.start_seconds() + clock_offset) * 1e6;
  const double end = begin + timing.total_seconds() * 1e6;
  if (timing.encode()) {
    return AddSpan(process, thread, "encode pictures", begin, end,
                   {{"pictures", timing.pictures()}, {"tiles", timing.tiles()}});
  }
  const StepKey key{replica, epoch, timing.step()};
  const auto batch = batches_.find(key);
  if (batch == batches_.end()) return;  // planned before the trace began
  Json args = batch->second;
  args["wait_ms"] = timing.wait_seconds() * 1e3;
  args["compute_ms"] = timing.compute_seconds() * 1e3;
  args["collective_ms"] = timing.collective_seconds() * 1e3;
  args["idle_before_ms"] = timing.idle_seconds() * 1e3;
  args["collective_bytes"] = timing.collective_bytes();
  args["link_bytes"] = timing.link_bytes();
  AddSpan(process, thread, fmt::format("step {}", timing.step()), begin, end, std::move(args));
  AddArrow("t", key, process, thread, begin);
  const auto& activities = timing.activities();
  for (int i = 0; i < activities.size(); ++i) {
    if (activities[i].name() == "idle") continue;
    const auto at = [&](int k) {
      return k == activities.size() ? end : std::min(end, begin + activities[k].offset_seconds() * 1e6);
    };
    AddSpan(process, thread, activities[i].name(), at(i), at(i + 1), Json::object());
  }
}

void Timeline::NameThreads() {
  const auto name = [&](int process, int thread, const char* what, const std::string& value) {
    Add({{"ph", "M"}, {"pid", process}, {"tid", thread}, {"name", what}, {"args", {{"name", value}}}});
  };
  name(kCoordinator, kEngineThread, "process_name", "coordinator");
  name(kCoordinator, kEngineThread, "thread_name", "engine");
  for (const auto& [replica, rank] : ranks_seen_) {
    name(kFirstReplica + replica, rank, "process_name", fmt::format("replica {}", replica));
    name(kFirstReplica + replica, rank, "thread_name", fmt::format("rank {}", rank));
  }
}

std::string Timeline::Finish(const std::map<std::string, std::string>& about) {
  std::lock_guard lock(mu_);
  gathering_ = false;
  NameThreads();
  Json other = about;
  other["gathered_from_us"] = Micros(since_);
  if (left_out_ > 0) other["events_left_out"] = left_out_;
  batches_.clear();
  std::string trace = R"({"displayTimeUnit":"ms","otherData":)" + other.dump() + ",\"traceEvents\":[\n";
  trace += std::exchange(events_, {});
  return trace + "\n]}\n";
}

}  // namespace fulger
