// The rank's one compute thread: everything that touches the device, its communicators and the weights
// happens here, in the order in which it arrived. Knows no gRPC: messages go out through a callback, called
// by a second thread in the order in which they were made, so that the next step does not wait for a socket.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "base/bounded_queue.h"
#include "base/status.h"
#include "fulger/v1/control.pb.h"
#include "worker/comm/collective.h"
#include "worker/comm/rendezvous.h"
#include "worker/layers/context.h"
#include "worker/service/picture_queue.h"
#include "worker/service/request_names.h"
#include "worker/vision/feature_store.h"

namespace fulger {

struct ExecutorOptions {
  std::string device = "cpu";
  int threads = 0;
  std::string kernels = "auto";                         // CPU: see DeviceOptions
  int ranks_per_device = 1;                             // that share a GPU
  std::string nccl_library;                             // empty: the machine's
  std::string model_dir_override;                       // empty: the coordinator's path
  std::chrono::milliseconds operation_deadline{60000};  // of one collective
};

class Executor {
 public:
  using Send = std::function<void(const v1::WorkerMessage&)>;
  // Waits until the stage's other ranks follow this one (index 0 only).
  using WaitForFollowers = std::function<absl::Status(int count)>;
  // Whether this host can reach those of the other ranks.
  using ReachOthers = std::function<absl::Status()>;

  struct Evict {
    std::string key;
  };
  struct Withdraw {  // a picture, if its encoding has not begun
    std::string key;
  };
  using Task = std::variant<std::shared_ptr<const v1::StepPlan>, Picture, Evict, Withdraw,
                            std::shared_ptr<const v1::SaveStates>, std::shared_ptr<const v1::FetchState>>;

  // Starts the thread: sets the rank up as `assign` says, reports Progress and Ready, then runs tasks. A
  // failure is reported as Failed and ends the thread with `failed()` true. `rendezvous` outlives the
  // executor.
  Executor(const v1::Assign& assign, uint64_t epoch, const ExecutorOptions& options, Send send,
           WaitForFollowers wait_for_followers, ReachOthers reach_others, Rendezvous& rendezvous);
  // Stops after the running task and joins. If a task may be stuck in a collective, call Abort first.
  ~Executor();

  // Thread-safe.
  void Push(Task task);
  void Abort(const absl::Status& why);
  std::string activity() const { return activity_.ToString(); }
  uint64_t last_step() const { return last_step_.load(); }
  bool failed() const { return failed_.load(); }
  bool ready() const { return ready_.load(); }  // the rank is set up
  uint64_t epoch() const { return epoch_; }

 private:
  struct Rank;  // config, weights, device, fabric, runner: made and used by the thread

  void Main();
  absl::Status SetUp(Rank& rank);
  // What the rank holds is settled here: a device that is too small is refused before anything is read.
  absl::Status OpenWeightSource(Rank& rank);
  absl::Status Load(Rank& rank);
  absl::Status Serve(Rank& rank);
  std::optional<Task> NextTask(Fabric& fabric);
  // Pictures go into the queue.
  absl::Status RunTask(Rank& rank, const Task& task, PictureQueue* pictures);
  absl::Status RunPlan(Rank& rank, const v1::StepPlan& plan);
  void SaveStates(Rank& rank, const v1::SaveStates& wanted);
  void FetchState(Rank& rank, const v1::SavedState& state);
  struct TaskTime {
    uint64_t step = 0;  // 0: a pass of the vision tower
    int pictures = 0;
    int64_t tiles = 0;
    double seconds = 0, wait = 0, idle = 0;
  };
  void SendTiming(const Rank& rank, std::chrono::steady_clock::time_point start, const TaskTime& time,
                  const std::vector<uint64_t>& expert_rows);
  absl::Status RunPass(Rank& rank, const std::vector<Picture>& pictures);
  void SendFeaturesReady(const std::string& key, const absl::StatusOr<int64_t>& rows);
  void ReportPhase(v1::Phase phase, double fraction = 0, double rate = 0, const std::string& text = {});
  v1::WorkerMessage NewMessage() const;
  void Post(v1::WorkerMessage message) { outbox_.Push(std::move(message)); }
  void SendAll();

  const v1::Assign assign_;
  const uint64_t epoch_;
  const ExecutorOptions options_;
  const Send send_;
  const WaitForFollowers wait_for_followers_;
  const ReachOthers reach_others_;
  Rendezvous& rendezvous_;
  Activity activity_;
  std::atomic<uint64_t> last_step_{0};
  std::atomic<bool> failed_{false};
  std::atomic<bool> ready_{false};
  std::atomic<bool> stopping_{false};
  v1::Phase phase_ = v1::PHASE_RENDEZVOUS;
  RequestNames requests_;
  std::vector<Activity::Mark> marks_;                 // of the task that runs, while somebody traces
  std::chrono::steady_clock::time_point busy_until_;  // the end of the task before
  std::mutex fabric_mu_;
  Fabric* fabric_ = nullptr;  // guarded by fabric_mu_: for Abort
  absl::Status aborted_;      // guarded by fabric_mu_
  BoundedQueue<Task> tasks_;
  BoundedQueue<v1::WorkerMessage> outbox_;
  std::thread sender_;
  std::thread thread_;
};

}  // namespace fulger
