// Replica: states of sequences that its ranks write when the job ends, and read in the next one.
#include <utility>

#include "coordinator/cluster/replica.h"

namespace fulger {

// Vision ranks hold nothing of a sequence.
void Replica::SendToLayersLocked(const std::shared_ptr<const v1::CoordinatorMessage>& message) {
  for (const auto& [rank, member] : members_) {
    const RankPlan& plan = plan_.ranks[static_cast<size_t>(rank)];
    if (!plan.vision_only && plan.index == 0) member.connection->Send(message);
  }
}

void Replica::Save(uint64_t epoch, const v1::SaveStates& wanted) {
  std::lock_guard lock(mu_);
  if (phase_ != ReplicaPhase::kServing || epoch != epoch_) return;
  saved_.clear();
  auto message = NewMessageLocked();
  *message->mutable_save() = wanted;
  SendToLayersLocked(message);
}

void Replica::Fetch(uint64_t epoch, const v1::SavedState& state) {
  std::lock_guard lock(mu_);
  if (phase_ != ReplicaPhase::kServing || epoch != epoch_) return;
  fetching_[state.id()] = {};
  auto message = NewMessageLocked();
  *message->mutable_fetch()->mutable_state() = state;
  SendToLayersLocked(message);
}

bool Replica::OnStatesSavedLocked(int rank, const v1::StatesSaved& saved, std::vector<v1::StatesSaved>* all) {
  v1::StatesSaved& kept = saved_[rank];
  kept = saved;
  if (!kept.error().empty()) kept.set_error(fmt::format("{}: {}", DescribeRank(rank), kept.error()));
  if (std::ssize(saved_) < LayerRanks()) return false;
  for (auto& [_, one] : saved_) all->push_back(std::move(one));
  saved_.clear();
  return true;
}

bool Replica::OnStateFetchedLocked(int rank, const v1::StateFetched& fetched, absl::Status* all) {
  const auto found = fetching_.find(fetched.id());
  if (found == fetching_.end()) return false;
  Fetching& state = found->second;
  if (!fetched.error().empty() && state.first_error.ok()) {
    state.first_error = DataLoss("{}: {}", DescribeRank(rank), fetched.error());
  }
  if (++state.answers < LayerRanks()) return false;
  *all = std::move(state.first_error);
  fetching_.erase(found);
  return true;
}

}  // namespace fulger
