// Worker to worker: index 0 of a stage forwards the bytes it got from the coordinator to the other ranks of
// its stage, which wait in a read here and not in MPI or NCCL, so an idle cluster burns no CPU.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/status.h"
#include "fulger/v1/control.pb.h"

namespace fulger {

// Thread-safe.
class PeerServer {
 public:
  // Listens on HOST:0.
  static absl::StatusOr<std::unique_ptr<PeerServer>> Start(const std::string& host);
  virtual ~PeerServer() = default;
  virtual const std::string& address() const = 0;
  // Waits until `count` ranks follow; DEADLINE_EXCEEDED names how many do.
  virtual absl::Status WaitForFollowers(int count, std::chrono::milliseconds deadline) = 0;
  // Queues for every follower; never blocks.
  virtual void Forward(const v1::PeerMessage& message) = 0;
  // Makes `value` available to FetchFromPeer; ALREADY_EXISTS for a key that is taken.
  virtual absl::Status Publish(const std::string& key, const std::string& value) = 0;
  virtual void Stop() = 0;
};

// Follows index 0: calls `on_message` for each forwarded message until the stream ends, and returns why it
// ended. Blocks for as long as the peer lives.
absl::Status FollowPeer(const std::string& address, int rank, std::chrono::milliseconds connect_deadline,
                        const std::function<void(const v1::PeerMessage&)>& on_message);

// What the worker at `address` published, waiting until it is there. DEADLINE_EXCEEDED, also while the worker
// cannot be reached.
absl::StatusOr<std::string> FetchFromPeer(const std::string& address, const std::string& key,
                                          std::chrono::milliseconds deadline);

}  // namespace fulger
