// The thread around EngineCore: a mailbox, the ids that are in use, and a published snapshot of the figures.
#include "coordinator/engine/engine.h"

#include <absl/functional/any_invocable.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "base/thread_pool.h"
#include "coordinator/engine/engine_core.h"

namespace fulger {
namespace {

// Beyond the time that ranks have to write: for what is in flight and for their answers.
constexpr Duration kSuspendGrace = std::chrono::seconds(3);

class ThreadedEngine final : public Engine {
 public:
  ThreadedEngine(const EngineConfig& config, const std::vector<Backend*>& backends, const Clock* clock,
                 EngineObserver* observer)
      : config_(config),
        clock_(clock),
        core_(config, backends, clock, observer, [this](const std::string& id) { Ended(id); }),
        events_(MakeEvents(backends.size())),
        max_length_(config.max_context),
        thread_([this] { Run(); }) {}

  ~ThreadedEngine() override {
    {
      std::lock_guard lock(mu_);
      refusing_ = true;
      stopping_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  absl::Status Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink) override {
    RETURN_IF_ERROR(CheckRequest(config_, request));
    {
      std::lock_guard lock(mu_);
      RETURN_IF_ERROR(AdmitLocked(request));
      ids_.insert(request.id);
      ++unfinished_;
      tasks_.emplace_back([this, request = std::move(request), sink = std::move(sink)]() mutable {
        core_.Submit(std::move(request), std::move(sink));
      });
    }
    wake_.notify_one();
    return absl::OkStatus();
  }

  bool Cancel(const std::string& id) override {
    {
      std::lock_guard lock(mu_);
      if (!ids_.contains(id)) return false;
      tasks_.emplace_back([this, id] { core_.Cancel(id); });
    }
    wake_.notify_one();
    return true;
  }

  EngineStats Stats() const override {
    std::lock_guard lock(mu_);
    EngineStats stats = stats_;
    stats.stopping = refusing_;
    if (last_step_time_ != TimePoint{}) stats.seconds_since_step = Seconds(clock_->Now() - last_step_time_);
    return stats;
  }

  void Drain(Duration timeout) override {
    if (!Settle(timeout)) EndAll(FinishReason::kCancelled, Cancelled("the server is stopping"));
  }

  bool Settle(Duration timeout) override {
    std::unique_lock lock(mu_);
    refusing_ = true;
    constexpr Duration kYear = std::chrono::hours(24 * 365);  // "for ever" must not overflow the clock
    return drained_.wait_for(lock, std::min(timeout, kYear), [this] { return unfinished_ == 0; });
  }

  std::vector<v1::SavedRequest> Suspend(const std::string& folder, Duration limit) override {
    auto saved = std::make_shared<std::promise<std::vector<v1::SavedRequest>>>();
    auto result = saved->get_future();
    Post([this, folder, limit, saved] {
      core_.Suspend(folder, limit, [saved](std::vector<v1::SavedRequest> requests) {
        saved->set_value(std::move(requests));
      });
    });
    // Ranks that write see to the time themselves.
    if (result.wait_for(limit + kSuspendGrace) != std::future_status::ready) {
      LogError("not all ranks have said in {:.0f} s what they saved", Seconds(limit + kSuspendGrace));
      Post([this] { core_.EndSuspend(); });
    }
    std::vector<v1::SavedRequest> requests = result.get();
    EndAll(
        FinishReason::kError,
        Unavailable("the server stops; what there is of the answer was saved, and the same request goes on "
                    "from there once it is back"));
    return requests;
  }

  BackendEvents* Events(size_t replica) override { return events_.at(replica).get(); }

 private:
  using Task = absl::AnyInvocable<void()>;

  // What one replica reports, on its way to the engine's thread.
  class ReplicaEvents final : public BackendEvents {
   public:
    ReplicaEvents(ThreadedEngine* engine, size_t replica) : engine_(engine), replica_(replica) {}
    void OnUp(uint64_t epoch, const ReplicaCapacity& capacity) override {
      engine_->Post([e = engine_, r = replica_, epoch, capacity] { e->core_.Up(r, epoch, capacity); });
    }
    void OnDown(const absl::Status& why) override {
      engine_->Post([e = engine_, r = replica_, why] { e->core_.Down(r, why); });
    }
    void OnResult(std::shared_ptr<const v1::StepResult> result) override {
      engine_->Post([e = engine_, r = replica_, result = std::move(result)] { e->core_.Result(r, *result); });
    }
    void OnProbeDue(uint64_t epoch) override {
      engine_->Post([e = engine_, r = replica_, epoch] { e->core_.ProbeDue(r, epoch); });
    }
    void OnFeaturesReady(uint64_t epoch, const std::string& key, const absl::Status& status) override {
      engine_->Post(
          [e = engine_, r = replica_, epoch, key, status] { e->core_.FeaturesReady(r, epoch, key, status); });
    }
    void OnStatesSaved(uint64_t epoch, std::vector<v1::StatesSaved> ranks) override {
      engine_->Post([e = engine_, r = replica_, epoch, ranks = std::move(ranks)] {
        e->core_.StatesSaved(r, epoch, ranks);
      });
    }
    void OnStateFetched(uint64_t epoch, uint64_t id, const absl::Status& status) override {
      engine_->Post(
          [e = engine_, r = replica_, epoch, id, status] { e->core_.StateFetched(r, epoch, id, status); });
    }

   private:
    ThreadedEngine* const engine_;
    const size_t replica_;
  };

  // Waits until every OnDone has returned.
  void EndAll(FinishReason reason, const absl::Status& why) {
    std::unique_lock lock(mu_);
    tasks_.emplace_back([this, reason, why] { core_.EndAll(reason, why); });
    wake_.notify_one();
    drained_.wait(lock, [this] { return unfinished_ == 0; });
  }

  void Post(Task task) {
    {
      std::lock_guard lock(mu_);
      tasks_.push_back(std::move(task));
    }
    wake_.notify_one();
  }

  std::vector<std::unique_ptr<ReplicaEvents>> MakeEvents(size_t replicas) {
    std::vector<std::unique_ptr<ReplicaEvents>> events;
    for (size_t i = 0; i < replicas; ++i) events.push_back(std::make_unique<ReplicaEvents>(this, i));
    return events;
  }

  absl::Status AdmitLocked(const EngineRequest& request) const {
    if (refusing_) return Unavailable("the engine is stopping");
    if (static_cast<int64_t>(request.prompt.size()) >= max_length_) {
      return InvalidArgument("the prompt has {} tokens; the cache of the replica leaves room for at most {}",
                             request.prompt.size(), max_length_ - 1);
    }
    if (ids_.contains(request.id)) return AlreadyExists("request {}: the id is in use", request.id);
    const int64_t queued = static_cast<int64_t>(ids_.size()) - stats_.running;
    if (queued >= config_.max_queued_requests) {
      return ResourceExhausted("{} requests are waiting, at most {} may", queued,
                               config_.max_queued_requests);
    }
    return absl::OkStatus();
  }

  // Engine thread, inside a task.
  void Ended(const std::string& id) {
    std::lock_guard lock(mu_);
    ids_.erase(id);
    ++ended_;
  }

  // A grammar's next mask, apart from this thread: only its sequence waits.
  void MakeMask(std::function<void()> work) {
    const bool queued = masks_.TryRun(std::move(work));
    FULGER_CHECK(queued, "more masks are wanted than there can be requests");
  }

  void Run() {
    core_.MakeMasksWith(
        [this](std::function<void()> work) { MakeMask(std::move(work)); },
        [this](uint64_t order, absl::StatusOr<std::shared_ptr<const TokenMask>> mask) {
          Post([this, order, mask = std::move(mask)]() mutable { core_.MaskReady(order, std::move(mask)); });
        });
    std::vector<Task> batch;
    for (bool last_turn = false; !last_turn;) {
      {
        std::unique_lock lock(mu_);
        wake_.wait(lock, [this] { return stopping_ || !tasks_.empty(); });
        batch.swap(tasks_);
        last_turn = stopping_;
      }
      for (Task& task : batch) task();
      batch.clear();
      if (last_turn) {
        core_.EndAll(FinishReason::kError, Unavailable("the engine stopped"));
      } else {
        core_.Pump();
      }
      Publish();
    }
  }

  void Publish() {
    std::lock_guard lock(mu_);
    stats_ = core_.Stats();
    max_length_ = core_.max_length();
    last_step_time_ = core_.last_step_time();
    unfinished_ -= std::exchange(ended_, 0);
    if (unfinished_ == 0) drained_.notify_all();
  }

  const EngineConfig config_;
  const Clock* const clock_;
  EngineCore core_;  // engine thread only
  const std::vector<std::unique_ptr<ReplicaEvents>> events_;

  mutable std::mutex mu_;
  std::condition_variable wake_, drained_;
  std::vector<Task> tasks_;
  std::unordered_set<std::string> ids_;  // from Submit until just before OnDone
  int64_t unfinished_ = 0;               // from Submit until the turn of the OnDone is over
  int64_t ended_ = 0;                    // in the current turn
  bool refusing_ = false;
  bool stopping_ = false;
  EngineStats stats_;
  int64_t max_length_;
  TimePoint last_step_time_{};

  ThreadPool masks_{2, size_t{1} << 20};  // after what its work uses
  std::thread thread_;                    // last: starts when all else is made
};

}  // namespace

std::unique_ptr<Engine> Engine::Create(const EngineConfig& config, const std::vector<Backend*>& backends,
                                       const Clock* clock, EngineObserver* observer) {
  return std::make_unique<ThreadedEngine>(config, backends, clock, observer);
}

}  // namespace fulger
