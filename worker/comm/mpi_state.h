// What fabric, collectives and links of one rank share: communicators, the polling loop, sends in flight.
// Private to the mpi_*.cc files. Executor thread only, except `failure`.
#pragma once

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "worker/comm/backoff.h"
#include "worker/comm/checks.h"
#include "worker/comm/collective.h"
#include "worker/comm/failure.h"
#include "worker/comm/message_queue.h"

namespace fulger {

// MPI counts are int: larger messages go in pieces, in order.
constexpr size_t kMpiPieceBytes = size_t{1} << 30;

class MpiState {
 public:
  // Collective over MPI_COMM_WORLD.
  static absl::StatusOr<std::shared_ptr<MpiState>> Make(const FabricOptions& options);
  ~MpiState();
  MpiState(const MpiState&) = delete;
  MpiState& operator=(const MpiState&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  const FabricOptions& options() const { return options_; }
  MPI_Comm setup_comm() const { return setup_comm_; }  // creating groups
  MPI_Comm link_comm() const { return link_comm_; }    // messages of links
  Failure& failure() { return *failure_; }
  const std::shared_ptr<Failure>& shared_failure() const { return failure_; }

  absl::Status Check(const Where& where) const { return failure_->Check(where); }
  absl::Status Fail(const absl::Status& status) { return failure_->Set(status); }
  // A failed MPI call: UNAVAILABLE naming operation, group or link, and peer (-1: none in particular).
  absl::Status MpiFailure(const Where& where, const char* call, int peer, int code);

  // A tag for `name`; another name may get the same one.
  int TagOf(std::string_view name) const;
  int TagOf(uint64_t number) const { return static_cast<int>(number % tag_limit_); }

  // The communicator lives until the state ends: freeing one is collective.
  void Keep(MPI_Comm comm) { group_comms_.push_back(comm); }

  // Starts a send that owns its bytes; the buffer returns to `pool` when MPI is done with it.
  absl::Status SendOwned(const Where& where, MessageBuffer buffer, std::shared_ptr<BufferPool> pool, int to,
                         int tag);
  // Frees the buffers of sends that are done; true when none is left. Never waits.
  absl::StatusOr<bool> Reap();

  // Polls `done` (absl::StatusOr<bool>()) until it is true. Ends early with the fabric's failure, or with
  // `missing` (absl::Status()) at the deadline. Sends in flight advance meanwhile.
  template <typename Done, typename Missing>
  absl::Status WaitUntil(const Where& where, Done done, Missing missing) {
    return WaitFor(where, options_.deadline, done, missing);
  }
  template <typename Done, typename Missing>
  absl::Status WaitFor(const Where& where, std::chrono::milliseconds limit, Done done, Missing missing) {
    const auto deadline = std::chrono::steady_clock::now() + limit;
    Backoff backoff(crowded_);
    while (true) {
      const absl::StatusOr<bool> finished = done();
      if (!finished.ok()) return Fail(finished.status());
      if (*finished) return absl::OkStatus();
      RETURN_IF_ERROR(Check(where));
      if (!sends_.empty()) RETURN_IF_ERROR(Reap().status());
      if (std::chrono::steady_clock::now() >= deadline) return Fail(missing());
      backoff.Pause();
    }
  }

 private:
  struct OwnedSend {
    std::vector<MPI_Request> requests;  // one per piece
    MessageBuffer buffer;
    std::shared_ptr<BufferPool> pool;  // of the link, which may be gone before the message
    std::string link;
    int to;
  };

  explicit MpiState(const FabricOptions& options) : options_(options) {}
  absl::Status Start();
  absl::Status CheckLauncher() const;
  absl::Status FindCrowding();
  bool AllRanksAreHere();

  const FabricOptions options_;
  // Shared with self links and single collectives made by the fabric, and set by Abort from other threads.
  const std::shared_ptr<Failure> failure_ = std::make_shared<Failure>();
  bool initialised_here_ = false;
  int rank_ = 0;
  int size_ = 1;
  bool crowded_ = false;
  uint64_t tag_limit_ = 32768;
  MPI_Comm setup_comm_ = MPI_COMM_NULL;
  MPI_Comm link_comm_ = MPI_COMM_NULL;
  std::vector<MPI_Comm> group_comms_;
  std::list<OwnedSend> sends_;
};

// A set of messages that one operation sends and receives, waited for together.
class MpiExchange {
 public:
  // `ranks`: world rank of each rank of `comm`, for messages. Both must outlive this.
  MpiExchange(MpiState& state, MPI_Comm comm, std::span<const int> ranks)
      : state_(state), comm_(comm), ranks_(ranks) {}
  ~MpiExchange() { CancelReceives(); }
  MpiExchange(const MpiExchange&) = delete;
  MpiExchange& operator=(const MpiExchange&) = delete;
  MPI_Comm comm() const { return comm_; }

  // Peers are ranks of the communicator. Sent bytes must stay unchanged until Finish.
  absl::Status Recv(const Where& where, int peer, int tag, void* data, size_t bytes);
  absl::Status Send(const Where& where, int peer, int tag, const void* data, size_t bytes);
  // Waits for all. When it fails, receives are cancelled as far as MPI can.
  absl::Status Finish(const Where& where, std::chrono::milliseconds limit);

 private:
  struct Transfer {
    int peer;
    bool receive;
    size_t bytes;
  };
  absl::StatusOr<bool> Poll(const Where& where);
  absl::Status Completed(const Where& where, const Transfer& transfer, const MPI_Status& status) const;
  absl::Status Missing(const Where& where, std::chrono::milliseconds limit) const;
  void CancelReceives();

  MpiState& state_;
  const MPI_Comm comm_;
  const std::span<const int> ranks_;
  std::vector<MPI_Request> requests_;
  std::vector<Transfer> transfers_;  // of the same index
  size_t open_ = 0;
  std::vector<int> done_;
  std::vector<MPI_Status> statuses_;
};

// `index` within `ranks` (world ranks). `comm` holds exactly these.
std::unique_ptr<Collective> MakeMpiCollective(std::shared_ptr<MpiState> state, MPI_Comm comm,
                                              std::vector<int> ranks, int index, std::string name);
std::unique_ptr<Link> MakeMpiLink(std::shared_ptr<MpiState> state, int from, int to, int tag,
                                  std::string name);

}  // namespace fulger
