// EngineCore: requests that end here and go on in another process.
#include <algorithm>

#include "base/log.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/engine_core_request.h"

namespace fulger {

// Everything known of the answer goes out again, to a sink that has seen none of it. False: it ended by that.
bool EngineCore::Resume(Request* r, const std::shared_ptr<const v1::SavedRequest>& from) {
  const v1::SavedRequest& saved = *from;
  Sequence& s = r->sequence;
  if (saved.has_cache()) {
    s.admitted_before = true;
    s.cache = {.used = saved.cache().used(),
               .cached = saved.cache().cached(),
               .matched = saved.cache().matched(),
               .lost = saved.cache().lost()};
  }
  std::vector<int32_t> ids;
  for (const v1::SavedToken& token : saved.tokens()) {
    s.ids.push_back(token.id());
    ids.push_back(token.id());
    ++r->delivered;
    r->tokens.push_back(token);
    top_logprobs_.clear();
    for (const v1::TokenLogprob& top : token.top()) top_logprobs_.emplace_back(top.id(), top.logprob());
    if (r->sink->OnToken(
            {.id = token.id(), .logprob = token.logprob(), .saved = true, .top = top_logprobs_}) ==
        ResponseSink::Next::kStop) {
      End(r, FinishReason::kStopString);
      return false;
    }
  }
  if (r->constraint != nullptr && !ids.empty()) {
    s.mask = nullptr;
    s.mask_position = -1;
    AdvanceConstraint(r, std::move(ids));
  }
  if (!saved.has_state()) return true;
  if (saved.state().position() <= 0 || saved.state().position() >= std::ssize(s.ids)) {
    LogError("request {}: the saved state is one after {} positions, known are {}: computed again", s.request,
             saved.state().position(), s.ids.size());
    return true;
  }
  s.saved = {from, &saved.state()};  // whose files are needed as long
  return true;
}

void EngineCore::StateFetched(size_t index, uint64_t epoch, uint64_t id, const absl::Status& status) {
  Replica& replica = replicas_[index];
  if (replica.planner == nullptr || epoch != replica.epoch) return;
  const Sequence* s = replica.planner->StateFetched(id, status.ok());
  if (s == nullptr || status.ok()) return;
  LogWarn("request {}: its saved state cannot be used, {} tokens are computed again: {}", s->request,
          s->ids.size(), Message(status));
}

void EngineCore::Suspend(const std::string& folder, Duration limit, Suspended done) {
  suspension_ = std::make_unique<Suspension>(Suspension{.folder = folder,
                                                        .deadline = clock_->Now() + limit,
                                                        .done = std::move(done),
                                                        .replicas = std::vector<Saving>(replicas_.size())});
}

void EngineCore::PumpSuspension() {
  if (suspension_->done == nullptr) return;
  bool all = true;
  for (size_t i = 0; i < replicas_.size(); ++i) {
    Saving& saving = suspension_->replicas[i];
    if (replicas_[i].planner == nullptr) saving.answered = true;  // what it held is gone
    if (!saving.asked && !saving.answered && replicas_[i].steps.empty()) AskToSave(replicas_[i], &saving);
    all = all && saving.answered;
  }
  if (all) EndSuspend();
}

// The longest first: they are worth most, should the time be short.
void EngineCore::AskToSave(Replica& replica, Saving* saving) {
  std::vector<StepPlanner::HeldState> held = replica.planner->HeldStates();
  std::erase_if(held, [](const auto& state) { return Owner(*state.sequence)->identity.empty(); });
  std::ranges::stable_sort(held, std::greater(), &StepPlanner::HeldState::position);
  v1::SaveStates wanted;
  wanted.set_folder(suspension_->folder);
  wanted.set_seconds(std::max(0.0, Seconds(suspension_->deadline - clock_->Now())));
  for (const StepPlanner::HeldState& state : held) {
    v1::SaveStates::Sequence* sequence = wanted.add_sequences();
    sequence->set_slot(state.sequence->slot);
    sequence->mutable_blocks()->Add(state.blocks.begin(), state.blocks.end());
    saving->sequences.emplace_back(state.sequence->order, state.position);
  }
  saving->asked = true;
  saving->answered = held.empty();
  if (saving->answered) return;
  LogInfo("replica {}: saving {} sequences in {}", replica.name, held.size(), suspension_->folder);
  replica.backend->Save(replica.epoch, wanted);
}

void EngineCore::StatesSaved(size_t index, uint64_t epoch, const std::vector<v1::StatesSaved>& ranks) {
  if (suspension_ == nullptr || suspension_->done == nullptr || epoch != replicas_[index].epoch) return;
  Saving& saving = suspension_->replicas[index];
  size_t whole = ranks.empty() ? 0 : saving.sequences.size();  // on every rank
  for (const v1::StatesSaved& rank : ranks) {
    whole = std::min(whole, static_cast<size_t>(rank.pieces_size()));
    if (!rank.error().empty()) LogError("replica {}: {}", replicas_[index].name, rank.error());
  }
  for (size_t i = 0; i < whole; ++i) {
    v1::SavedState state;
    state.set_position(saving.sequences[i].second);
    state.set_replica(replicas_[index].name);
    for (const v1::StatesSaved& rank : ranks) *state.add_pieces() = rank.pieces(static_cast<int>(i));
    suspension_->states.emplace(saving.sequences[i].first, std::move(state));
  }
  saving.answered = true;
}

void EngineCore::EndSuspend() {
  if (suspension_ == nullptr || suspension_->done == nullptr) return;
  std::vector<v1::SavedRequest> saved;
  for (const auto& [order, request] : requests_) {
    if (request->identity.empty()) continue;
    v1::SavedRequest one = Save(*request);
    if (one.has_state() || one.tokens_size() > 0) saved.push_back(std::move(one));
  }
  std::exchange(suspension_->done, nullptr)(std::move(saved));
}

v1::SavedRequest EngineCore::Save(const Request& request) const {
  const Sequence& s = request.sequence;
  v1::SavedRequest saved;
  saved.set_request(s.request);
  saved.set_identity(request.identity);
  saved.set_seed(s.sampling.seed());
  saved.set_prompt_tokens(s.prompt_count);
  saved.mutable_tokens()->Add(request.tokens.begin(), request.tokens.end());
  if (s.admitted_before) {
    saved.mutable_cache()->set_used(s.cache.used);
    saved.mutable_cache()->set_cached(s.cache.cached);
    saved.mutable_cache()->set_matched(s.cache.matched);
    saved.mutable_cache()->set_lost(s.cache.lost);
  }
  if (const auto state = suspension_->states.find(s.order); state != suspension_->states.end()) {
    *saved.mutable_state() = state->second;
  }
  return saved;
}

}  // namespace fulger
