// The engine without its thread: every event is a call, nothing waits. One thread at a time.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/engine/backend.h"
#include "coordinator/engine/engine.h"
#include "coordinator/engine/types.h"
#include "coordinator/scheduler/sequence.h"
#include "coordinator/scheduler/step_planner.h"

namespace fulger {

// INVALID_ARGUMENT if the request contradicts itself or could never run under this configuration.
absl::Status CheckRequest(const EngineConfig& config, const EngineRequest& request);

class EngineCore {
 public:
  // One backend for each replica. `on_end` hears the id of each request just before its OnDone.
  EngineCore(const EngineConfig& config, const std::vector<Backend*>& backends, const Clock* clock,
             EngineObserver* observer, std::function<void(const std::string&)> on_end);
  ~EngineCore();

  void Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink);  // checked; a fresh id
  void Cancel(const std::string& id);
  void EndAll(FinishReason reason, const absl::Status& why);

  void Up(size_t replica, uint64_t epoch, const ReplicaCapacity& capacity);
  void Down(size_t replica, const absl::Status& why);
  void Result(size_t replica, const v1::StepResult& result);
  // Runs `work`, which ends with a call of MaskReady, on some thread: making a mask may take milliseconds. By
  // default on this one, at once.
  using RunWork = std::function<void(std::function<void()> work)>;
  // What `work` calls: MaskReady has to come to the engine's thread.
  using PostMask = std::function<void(uint64_t order, absl::StatusOr<std::shared_ptr<const TokenMask>> mask)>;
  void MakeMasksWith(RunWork run, PostMask post);
  void MaskReady(uint64_t order, absl::StatusOr<std::shared_ptr<const TokenMask>> mask);
  // Sends a probe at the next Pump, unless a step is in flight, which shows as much.
  void ProbeDue(size_t replica, uint64_t epoch);
  void FeaturesReady(size_t replica, uint64_t epoch, const std::string& key, const absl::Status& status);
  void StateFetched(size_t replica, uint64_t epoch, uint64_t id, const absl::Status& status);

  // From now on nothing new is planned. When no step is in flight the ranks write what the requests hold into
  // `folder`, until `limit` has passed; then `done` is called, once, with what is needed to go on. The
  // requests are still there.
  using Suspended = std::function<void(std::vector<v1::SavedRequest>)>;
  void Suspend(const std::string& folder, Duration limit, Suspended done);
  void StatesSaved(size_t replica, uint64_t epoch, const std::vector<v1::StatesSaved>& ranks);
  // Waits for no rank any more: `done` is called now, if it was not.
  void EndSuspend();

  // Submits what can be submitted now. After every batch of events.
  void Pump();
  EngineStats Stats() const;         // seconds_since_step is left out: last_step_time says it
  TimePoint last_step_time() const;  // of the replica that has answered last
  // The longest prompt and completion that fit the context and the largest cache.
  int64_t max_length() const;

 private:
  struct Request;
  struct StepInfo {
    uint64_t step = 0;
    TimePoint submitted;
    int64_t decode_rows = 0;
    int64_t prefill_tokens = 0;
    bool probe = false;
  };

  // One copy of the model, through all its epochs.
  struct Replica {
    std::string name;
    Backend* backend = nullptr;
    uint64_t epoch = 0;
    std::unique_ptr<StepPlanner> planner{};  // null while it is down
    absl::Status down_reason{};
    std::deque<StepInfo> steps{};  // in flight
    TimePoint last_step{};         // of this epoch
    bool probe_due = false;
    std::string probe_error{};
  };

  // What is asked of a replica while all is suspended.
  struct Saving {
    bool asked = false, answered = false;
    std::vector<std::pair<uint64_t, int64_t>> sequences{};  // order of arrival, position: as asked
  };
  struct Suspension {
    std::string folder;
    TimePoint deadline{};
    Suspended done{};
    std::vector<Saving> replicas{};
    std::map<uint64_t, v1::SavedState> states{};  // by order of arrival
  };

  static Request* Owner(const Sequence& sequence);
  PlannerConfig PlannerConfigOf(const Replica& replica, const ReplicaCapacity& capacity) const;
  int64_t MaxLengthOn(const Replica& replica) const;
  void Assign(Request* request);
  void Enqueue(Request* request);
  void CountKnownPictures(uint64_t order);
  void TakeBackWaiting();
  // `begin`: when planning began.
  void SubmitPlan(Replica& replica, std::shared_ptr<const v1::StepPlan> plan, TimePoint begin);
  void ReportPlan(const Replica& replica, const v1::StepPlan& plan, TimePoint begin);
  size_t IndexOf(const Replica& replica) const { return static_cast<size_t>(&replica - replicas_.data()); }
  void PumpReplica(Replica& replica);
  void ApplyToken(Sequence* sequence, const v1::SampledToken& sampled);
  void Deliver(Request* request, const v1::SampledToken& sampled);
  bool Resume(Request* request, const std::shared_ptr<const v1::SavedRequest>& from);
  void AdvanceConstraint(Request* request, std::vector<int32_t> tokens);
  void PumpSuspension();
  void AskToSave(Replica& replica, Saving* saving);
  v1::SavedRequest Save(const Request& request) const;
  void DeliverScores(Sequence* sequence, const v1::PromptScores& scores);
  void RecordTokenTime(Request* request);
  void NoteProbe(Replica& replica, const v1::StepResult& result);
  void RecordStep(Replica& replica, uint64_t step, TimePoint answered);
  void ApplyTokens(const Replica& replica, const std::vector<StepPlanner::AnsweredRow>& rows,
                   const v1::StepResult& result);
  static int64_t IntactPositions(const Request& request, FinishReason reason);
  void End(Request* request, FinishReason reason, const absl::Status& error = absl::OkStatus(),
           int32_t stop_id = -1);
  RequestTimes TimesOf(const Request& request) const;

  const EngineConfig config_;
  const Clock* const clock_;
  EngineObserver* const observer_;
  const std::function<void(const std::string&)> on_end_;

  std::map<uint64_t, std::unique_ptr<Request>> requests_;  // by arrival
  std::unordered_map<std::string, Request*> by_id_;
  uint64_t arrivals_ = 0;
  std::unique_ptr<Suspension> suspension_;  // null until Suspend
  RunWork run_ = [](const std::function<void()>& work) { work(); };
  PostMask post_ = [this](uint64_t order, absl::StatusOr<std::shared_ptr<const TokenMask>> mask) {
    MaskReady(order, std::move(mask));
  };

  std::vector<Replica> replicas_;                        // as many as there are backends, for good
  EngineStats totals_;                                   // only the counters
  std::vector<double> first_token_, token_gap_;          // of the step being applied
  std::vector<std::pair<int32_t, float>> top_logprobs_;  // scratch
};

}  // namespace fulger
