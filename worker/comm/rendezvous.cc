#include "worker/comm/rendezvous.h"

namespace fulger {
namespace {

class LocalRendezvous final : public Rendezvous {
 public:
  LocalRendezvous(std::shared_ptr<RendezvousBoard> board, int rank) : board_(std::move(board)), rank_(rank) {}
  absl::Status Publish(const std::string& key, const std::string& value) override {
    return board_->Publish(rank_, key, value);
  }
  absl::StatusOr<std::string> Fetch(int rank, const std::string& key,
                                    std::chrono::milliseconds deadline) override {
    return board_->Fetch(rank, key, deadline);
  }
  void Abort(const absl::Status& why) override { board_->Abort(why); }

 private:
  const std::shared_ptr<RendezvousBoard> board_;  // shared with the other ranks of this process
  const int rank_;
};

}  // namespace

absl::Status RendezvousBoard::Publish(int rank, const std::string& key, const std::string& value) {
  std::lock_guard lock(mu_);
  if (!values_.emplace(std::pair(rank, key), value).second) {
    return AlreadyExists("rendezvous: rank {} published \"{}\" before", rank, key);
  }
  changed_.notify_all();
  return absl::OkStatus();
}

absl::StatusOr<std::string> RendezvousBoard::Fetch(int rank, const std::string& key,
                                                   std::chrono::milliseconds deadline) {
  std::unique_lock lock(mu_);
  const auto wanted = std::pair(rank, key);
  changed_.wait_for(lock, deadline, [&] { return !aborted_.ok() || values_.contains(wanted); });
  if (!aborted_.ok()) {
    return MakeStatus(absl::StatusCode::kAborted, "rendezvous: \"{}\" of rank {}: {}", key, rank,
                      Message(aborted_));
  }
  const auto found = values_.find(wanted);
  if (found == values_.end()) {
    return DeadlineExceeded("rendezvous: rank {} did not publish \"{}\" within {} ms", rank, key,
                            deadline.count());
  }
  return found->second;
}

void RendezvousBoard::Abort(const absl::Status& why) {
  std::lock_guard lock(mu_);
  if (aborted_.ok()) aborted_ = why;
  changed_.notify_all();
}

std::unique_ptr<Rendezvous> MakeLocalRendezvous(std::shared_ptr<RendezvousBoard> board, int rank) {
  return std::make_unique<LocalRendezvous>(std::move(board), rank);
}

}  // namespace fulger
