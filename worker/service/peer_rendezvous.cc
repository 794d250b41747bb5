#include "worker/service/peer_rendezvous.h"

#include <algorithm>

namespace fulger {
namespace {

// One call waits this long at the other end; an abort is seen between calls.
constexpr auto kSlice = std::chrono::milliseconds(500);

}  // namespace

absl::Status PeerRendezvous::Publish(const std::string& key, const std::string& value) {
  return own_.Publish(key, value);
}

absl::StatusOr<std::string> PeerRendezvous::Fetch(int rank, const std::string& key,
                                                  std::chrono::milliseconds deadline) {
  if (rank < 0 || static_cast<size_t>(rank) >= addresses_.size()) {
    return Internal("rendezvous: there is no rank {}, {} addresses are known", rank, addresses_.size());
  }
  const std::string& address = addresses_[static_cast<size_t>(rank)];
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (true) {
    {
      std::lock_guard lock(mu_);
      if (!aborted_.ok()) {
        return MakeStatus(absl::StatusCode::kAborted, "rendezvous: \"{}\" of rank {}: {}", key, rank,
                          Message(aborted_));
      }
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    auto value = FetchFromPeer(address, key, std::clamp(left, std::chrono::milliseconds(1), kSlice));
    if (value.ok() || value.status().code() != absl::StatusCode::kDeadlineExceeded) return value;
    if (std::chrono::steady_clock::now() >= end) {
      return DeadlineExceeded("rendezvous: rank {} at {} did not publish \"{}\" within {} ms", rank, address,
                              key, deadline.count());
    }
  }
}

void PeerRendezvous::Abort(const absl::Status& why) {
  std::lock_guard lock(mu_);
  if (aborted_.ok()) aborted_ = why;
}

}  // namespace fulger
