// A rank under `fulger doctor`: looks at its node, connects to the other ranks, measures the way to them, one
// step at a time as the coordinator asks, in one thread. Knows no gRPC: answers go out through a callback.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"
#include "base/status.h"
#include "fulger/v1/control.pb.h"
#include "kernels/device/device.h"
#include "worker/comm/collective.h"
#include "worker/comm/rendezvous.h"

namespace fulger {

struct ExaminerOptions {
  std::string device = "cpu";
  int threads = 0;  // as the rank would have
  std::string kernels = "auto";
  std::string nccl_library;
  std::string model_dir_override;  // empty: the coordinator's path
  std::string host;                // of this node, as others dial it
};

class Examiner {
 public:
  using Send = std::function<void(const v1::WorkerMessage&)>;
  // The hosts that this one does not reach, one failure each.
  using Unreached =
      std::function<std::vector<absl::Status>(int rank, std::span<const std::string> addresses)>;

  // `rendezvous` makes one out of the ranks' addresses, for transports that need it. `send` comes from the
  // thread.
  using MakeRendezvous = std::function<Rendezvous*(std::span<const std::string> addresses)>;
  Examiner(int rank, uint64_t epoch, ExaminerOptions options, Send send, Unreached unreached,
           MakeRendezvous make_rendezvous);
  // Ends after the running step, and with it MPI. If that may hang, see busy().
  ~Examiner();

  // Thread-safe.
  void Push(const v1::Examine& step) { steps_.Push(step); }
  std::string activity() const;
  // A step runs, or one has failed: the process must end by _exit.
  bool busy() const { return busy_.load(); }
  int rank() const { return rank_; }
  uint64_t epoch() const { return epoch_; }

 private:
  void Main();
  absl::Status Run(const v1::Examine& step, v1::Examined* found);
  absl::Status Look(const v1::Look& look, v1::Examined* found);
  absl::Status Connect(const v1::Connect& connect, v1::Examined* found);
  absl::Status Measure(const v1::Measure& measure, v1::Examined* found);
  void Doing(std::string what);

  const int rank_;
  const uint64_t epoch_;
  const ExaminerOptions options_;
  const Send send_;
  const Unreached unreached_;
  const MakeRendezvous make_rendezvous_;
  std::unique_ptr<Device> device_;  // these two: the thread's
  std::unique_ptr<Fabric> fabric_;
  mutable std::mutex mu_;
  std::string doing_ = "waiting for the coordinator";
  std::atomic<bool> busy_{false};
  BoundedQueue<v1::Examine> steps_;
  std::thread thread_;
};

}  // namespace fulger
