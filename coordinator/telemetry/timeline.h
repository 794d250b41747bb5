// A timeline of steps in the trace event format that Perfetto and chrome://tracing open: what the coordinator
// plans and applies, what every rank does in each step, and where each request's time goes. Gathered only
// between Start and Finish; outside of these it costs one atomic load per step.
//
// Processes of the trace: 1 the coordinator, 2 + r replica r with a thread for each rank. Arrows lead from a
// step's plan over the ranks that run it to its update. Times are this process's steady clock, in
// microseconds; those of ranks on other hosts are shifted by the offset that pings have measured.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <tuple>
#include <utility>

#include "base/clock.h"
#include "coordinator/cluster/replica.h"
#include "coordinator/engine/engine_observer.h"

namespace fulger {

// Thread-safe.
class Timeline final : public TimingListener {
 public:
  static constexpr size_t kMostBytes = size_t{256}
                                       << 20;  // beyond, events are left out, and the trace says so

  bool gathering() const { return gathering_.load(std::memory_order_relaxed); }
  // False: somebody gathers already.
  bool Start(TimePoint now);
  // The trace as JSON; `about` goes into its otherData.
  std::string Finish(const std::map<std::string, std::string>& about);

  void AddPlan(const PlanRecord& record);
  void AddUpdate(const StepRecord& record);
  void AddRequest(const RequestRecord& record);
  void OnTiming(const std::string& replica, uint64_t epoch, const v1::RankTiming& timing,
                double clock_offset) override;

 private:
  using Json = nlohmann::json;
  using StepKey = std::tuple<int, uint64_t, uint64_t>;  // replica, epoch, step

  // With mu_ held.
  void Add(const Json& event);
  void AddSpan(int process, int thread, const std::string& name, double begin, double end, Json args);
  void AddArrow(const char* phase, const StepKey& step, int process, int thread, double at);
  void NameThreads();

  std::atomic<bool> gathering_{false};
  std::mutex mu_;
  TimePoint since_{};
  std::string events_;  // JSON, with commas between
  uint64_t left_out_ = 0;
  std::map<StepKey, Json> batches_;           // what the last steps hold, for the ranks' spans
  std::set<std::pair<int, int>> ranks_seen_;  // replica, rank
};

}  // namespace fulger
