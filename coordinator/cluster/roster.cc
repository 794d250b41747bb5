#include "coordinator/cluster/roster.h"

#include <fmt/ranges.h>

namespace fulger {

std::string Where(const v1::Hello& hello) {
  return fmt::format("host {}, pid {}", hello.host(), hello.pid());
}

absl::StatusOr<int> Roster::Admit(const v1::Hello& hello) {
  if (hello.version() != version_) {
    return FailedPrecondition("worker on {} is version {}, this coordinator is {}: start both from one build",
                              Where(hello), hello.version(), version_);
  }
  if (hello.device().starts_with("cuda") != gpus_) {
    return FailedPrecondition(
        "worker on {} computes on {}, this coordinator was told --device {}: say the same to both",
        Where(hello), hello.device(), gpus_ ? "cuda" : "cpu");
  }
  if (hello.world_hint() > 1 && hello.world_hint() != ranks_) {
    return FailedPrecondition("worker on {}: its launcher started {} ranks, the layout has {}", Where(hello),
                              hello.world_hint(), ranks_);
  }
  // Before the transport: a worker that sees no other rank cannot offer mpi, and this is why.
  if (transport_ == "mpi" && ranks_ > 1 && hello.world_hint() <= 1) {
    return FailedPrecondition(
        "worker on {} sees an MPI world of size 1: it was not started by mpirun, or the launcher and the MPI "
        "library do not speak the same PMI. Ranks that exchange over MPI are started with one mpirun or srun "
        "--mpi=pmix",
        Where(hello));
  }
  // What joins GPU ranks is ours to say: one needs nothing, NCCL needs no launcher, and MPI was seen to
  // above.
  if (hello.transport() != transport_ && !gpus_) {
    return FailedPrecondition("worker on {} offers transport {}, the layout needs {}", Where(hello),
                              hello.transport(), transport_);
  }
  int rank = hello.rank_hint();
  if (rank >= ranks_) {
    return FailedPrecondition("worker on {} claims rank {}, the layout has ranks 0..{}: one worker too many",
                              Where(hello), rank, ranks_ - 1);
  }
  if (rank >= 0) {
    if (const v1::Hello* other = Find(rank); other != nullptr) {
      return AlreadyExists("worker on {} claims rank {}, which {} holds already", Where(hello), rank,
                           Where(*other));
    }
  } else {
    const std::optional<int> free = FirstFree();
    if (!free.has_value()) {
      return ResourceExhausted("worker on {} is one too many: all {} ranks of the layout have joined",
                               Where(hello), ranks_);
    }
    rank = *free;
  }
  members_.emplace(rank, hello);
  left_.erase(rank);
  return rank;
}

void Roster::Remove(int rank) {
  if (const v1::Hello* hello = Find(rank); hello != nullptr) left_[rank] = hello->host();
  members_.erase(rank);
}

void Roster::Clear() {
  members_.clear();
  left_.clear();
}

const v1::Hello* Roster::Find(int rank) const {
  const auto it = members_.find(rank);
  return it == members_.end() ? nullptr : &it->second;
}

std::optional<int> Roster::FirstFree() const {
  for (int r = 0; r < ranks_; ++r) {
    if (!members_.contains(r)) return r;
  }
  return std::nullopt;
}

std::string Roster::Describe() const {
  std::vector<std::string> missing;
  for (int r = 0; r < ranks_; ++r) {
    if (members_.contains(r)) continue;
    const auto left = left_.find(r);
    missing.push_back(left == left_.end() ? std::to_string(r)
                                          : fmt::format("{} (left, was on host {})", r, left->second));
  }
  const std::string joined = fmt::format("{} of {} ranks have joined", members_.size(), ranks_);
  return missing.empty() ? joined : fmt::format("{}; missing: {}", joined, fmt::join(missing, ", "));
}

}  // namespace fulger
