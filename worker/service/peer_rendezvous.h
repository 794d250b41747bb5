// The ranks' rendezvous between processes: values stay with the worker that published them, and the others
// fetch them over its Peer service, whose address the coordinator gave out.
#pragma once

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "worker/comm/rendezvous.h"
#include "worker/service/peer_server.h"

namespace fulger {

class PeerRendezvous final : public Rendezvous {
 public:
  // `addresses` by rank; `own` outlives this.
  PeerRendezvous(PeerServer& own, std::vector<std::string> addresses)
      : own_(own), addresses_(std::move(addresses)) {}

  absl::Status Publish(const std::string& key, const std::string& value) override;
  absl::StatusOr<std::string> Fetch(int rank, const std::string& key,
                                    std::chrono::milliseconds deadline) override;
  void Abort(const absl::Status& why) override;

 private:
  PeerServer& own_;
  const std::vector<std::string> addresses_;
  std::mutex mu_;
  absl::Status aborted_;
};

}  // namespace fulger
