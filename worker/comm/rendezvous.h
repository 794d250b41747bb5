// How the ranks of a replica hand each other small values while they connect (NCCL's ids). A rank publishes
// under a key; the others fetch by rank and key and wait until it is there.
//
// Threads: any. Between processes it goes over the workers' own gRPC (worker/service), whose addresses the
// coordinator gives out at Join; LocalRendezvous is for ranks in one process.
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "base/status.h"

namespace fulger {

class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  // Never waits. ALREADY_EXISTS for a key that this rank has published.
  virtual absl::Status Publish(const std::string& key, const std::string& value) = 0;
  // DEADLINE_EXCEEDED names rank and key; ABORTED once Abort was called.
  virtual absl::StatusOr<std::string> Fetch(int rank, const std::string& key,
                                            std::chrono::milliseconds deadline) = 0;
  // Wakes every Fetch of this rank, now and later.
  virtual void Abort(const absl::Status& why) = 0;
};

// What all ranks of one process published.
class RendezvousBoard {
 public:
  absl::Status Publish(int rank, const std::string& key, const std::string& value);
  absl::StatusOr<std::string> Fetch(int rank, const std::string& key, std::chrono::milliseconds deadline);
  void Abort(const absl::Status& why);

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::map<std::pair<int, std::string>, std::string> values_;
  absl::Status aborted_;
};

// The view of `rank`.
std::unique_ptr<Rendezvous> MakeLocalRendezvous(std::shared_ptr<RendezvousBoard> board, int rank);

}  // namespace fulger
