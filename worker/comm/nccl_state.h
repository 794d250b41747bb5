// What fabric, collectives and links of one rank share over NCCL: the library, the communicators, and a
// watchdog thread that sees what the executor cannot while it waits for the GPU: an operation past its
// deadline, an error that a communicator reports, an abort. It then keeps the failure and aborts every
// communicator, which ends the NCCL kernels, so that the executor's wait returns. Private to the nccl_*.cc
// files.
//
// Threads: the executor, but for `Abort`. Communicators are non-blocking: a call of NCCL returns at once, so
// the lock around each is held for microseconds and the watchdog can always abort.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "worker/comm/checks.h"
#include "worker/comm/failure.h"
#include "worker/comm/nccl_fabric.h"
#include "worker/comm/nccl_library.h"

namespace fulger {

// INTERNAL with call and error; for the transport's own calls of the CUDA runtime.
absl::Status CudaStatus(cudaError_t error, const char* call);
#define NCCL_CUDA_RETURN_IF_ERROR(expr) RETURN_IF_ERROR(::fulger::CudaStatus((expr), #expr))

class NcclState {
 public:
  static absl::StatusOr<std::shared_ptr<NcclState>> Make(const NcclSetup& setup,
                                                         const FabricOptions& options);
  ~NcclState();
  NcclState(const NcclState&) = delete;
  NcclState& operator=(const NcclState&) = delete;

  const NcclLibrary& library() const { return *library_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  const std::shared_ptr<Failure>& failure() const { return failure_; }
  absl::Status Check(const Where& where) const { return failure_->Check(where); }
  absl::Status Fail(const absl::Status& status);
  void Abort(const absl::Status& why);

  // Starts a communicator of `ranks` (this rank among them, the first one publishes the id) and returns its
  // handle, a number; the other ranks may be late.
  absl::StatusOr<size_t> Start(const Where& where, std::span<const int> ranks);
  // Waits until the communicator is connected. DEADLINE_EXCEEDED names the ranks of which one did not come.
  absl::Status Connected(const Where& where, size_t handle);
  // Makes one call of NCCL on the communicator, under the lock, and waits until NCCL has taken it.
  absl::Status Call(const Where& where, size_t handle, const std::function<ncclResult_t(ncclComm_t)>& call);
  // The watchdog follows what was enqueued on `stream` up to now.
  absl::Status Track(const Where& where, size_t handle, cudaStream_t stream);
  // Waits on the host for what was enqueued on `stream` up to now; ends early with the first failure.
  absl::Status Wait(const Where& where, cudaStream_t stream);

  // The stream that `stream` stands for: the device's own, or this rank's where the caller has host memory
  // only.
  cudaStream_t StreamOf(Stream& stream) const;
  // Device memory of this rank, grow-only, for host tensors on their way; valid until the next call.
  absl::StatusOr<void*> HostStaging(cudaStream_t stream, size_t bytes);
  absl::Status Enter() const;  // makes this rank's GPU the thread's current one

 private:
  struct Comm {
    ncclComm_t comm = nullptr;
    std::vector<int> ranks;
    bool connected = false;
  };
  struct Pending {
    std::string what;
    cudaEvent_t event = nullptr;
    std::chrono::steady_clock::time_point since;
  };
  NcclState(const NcclSetup& setup, const FabricOptions& options)
      : rank_(setup.rank),
        size_(setup.size),
        gpu_(setup.gpu),
        rendezvous_(setup.rendezvous),
        options_(options) {}

  absl::StatusOr<cudaEvent_t> TakeEvent();
  absl::Status NcclFailure(const Where& where, const Comm& comm, ncclResult_t result);
  absl::Status LatePeers(const Where& where, const Comm& comm) const;
  void Watch();
  absl::Status LookOnce();
  void AbortCommunicators();

  const int rank_, size_, gpu_;
  Rendezvous* const rendezvous_;
  const FabricOptions options_;
  std::shared_ptr<const NcclLibrary> library_;
  const std::shared_ptr<Failure> failure_ =
      std::make_shared<Failure>();  // shared with self links and single groups
  cudaStream_t stream_ = nullptr;
  void* staging_ = nullptr;
  size_t staging_bytes_ = 0;

  std::mutex mu_;  // guards all below, and every call of NCCL
  std::vector<Comm> comms_;
  std::deque<Pending> pending_;  // in the order of enqueueing
  std::vector<cudaEvent_t> spare_events_;
  bool aborted_ = false;  // the communicators are gone
  bool ending_ = false;
  std::condition_variable woken_;
  std::thread watchdog_;
};

std::unique_ptr<Collective> MakeNcclCollective(std::shared_ptr<NcclState> state, size_t handle,
                                               std::vector<int> ranks, int index, std::string name);
absl::StatusOr<std::unique_ptr<Link>> MakeNcclLink(std::shared_ptr<NcclState> state, int from, int to,
                                                   std::string name);

}  // namespace fulger
