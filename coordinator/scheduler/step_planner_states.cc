// StepPlanner's part in states that outlive a process: what sequences hold when all stops, and those of an
// earlier process that sequences continue from.
#include <algorithm>

#include "coordinator/scheduler/step_planner.h"

namespace fulger {
namespace {

// Each is in host memory on every rank until its sequence is admitted.
constexpr int64_t kFetched = 4;

}  // namespace

std::vector<std::shared_ptr<const v1::SavedState>> StepPlanner::StatesToFetch() {
  std::vector<std::shared_ptr<const v1::SavedState>> states;
  if (saved_waiting_ == 0) return states;
  int64_t fetching = std::ranges::count_if(waiting_, &Sequence::fetching);
  for (Sequence* s : waiting_) {
    if (fetching >= kFetched) break;
    if (s->saved == nullptr || s->fetching()) continue;
    s->fetch = Sequence::Fetch::kAsked;
    states.push_back(s->saved);
    ++fetching;
  }
  return states;
}

const Sequence* StepPlanner::StateFetched(uint64_t id, bool ok) {
  const auto found = std::ranges::find_if(waiting_, [&](const Sequence* s) {
    return s->saved != nullptr && s->saved->id() == id && s->fetch == Sequence::Fetch::kAsked;
  });
  if (found == waiting_.end()) return nullptr;
  Sequence* s = *found;
  if (ok) {
    s->fetch = Sequence::Fetch::kReady;
  } else {
    dropped_states_.push_back(id);  // some ranks may have it
    s->saved = nullptr;
    s->match_version = 0;
    --saved_waiting_;
  }
  return s;
}

// It continues from there and from no anchor.
void StepPlanner::ViewSaved(Sequence* s, SequenceView* view) {
  s->match = {};
  view->planned = s->saved->position();
  const bool ready = s->fetch == Sequence::Fetch::kReady;
  view->available = ready ? Available(*s, view->planned, view->known) : view->planned;
  view->awaits = Awaits(*s, view->planned);
}

// Its blocks follow with its first row.
void StepPlanner::Restore(Sequence* s, v1::StepPlan* plan) {
  v1::RestoredState* restored = plan->add_restored();
  restored->set_sequence(s->id);
  restored->set_state(s->saved->id());
  s->saved = nullptr;
  --saved_waiting_;
}

int64_t StepPlanner::FirstToRun(const Sequence& s) {
  return std::max({s.planned, s.match.position, s.saved != nullptr ? s.saved->position() : 0});
}

std::vector<StepPlanner::HeldState> StepPlanner::HeldStates() const {
  std::vector<HeldState> held;
  const auto add = [&](Sequence* s, int64_t position) {
    if (position <= 0 || position >= std::ssize(s->ids) || s->in_flight > 0) return;
    const auto blocks = s->blocks.begin() + BlocksFor(position, config_.block_size);
    held.push_back({.sequence = s, .position = position, .blocks = {s->blocks.begin(), blocks}});
  };
  for (Sequence* s : running_) add(s, s->planned);
  for (Sequence* s : displaced_) add(s, s->saved_at);
  return held;
}

}  // namespace fulger
