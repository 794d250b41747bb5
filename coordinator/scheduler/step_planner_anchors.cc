// StepPlanner's part in the prefix cache: what a hit shares, what a running sequence saves.
#include <algorithm>
#include <iterator>
#include <span>

#include "coordinator/scheduler/step_planner.h"

namespace fulger {

int64_t StepPlanner::CachedPositions(Sequence* s) const {
  if (!s->use_anchors || !anchors_.enabled()) return 0;
  const auto ids = static_cast<int64_t>(s->ids.size());
  AppendSymbols(s->ids, s->images, ids, &s->symbols);
  const AnchorCache::Match match = anchors_.Find(s->symbols, s->images, ids - 1);
  return std::max(match.position, match.promised);
}

// A sequence that is about to be admitted shares the whole blocks of its anchor. One that the anchor fills in
// part will be copied, since both write on. From here on nothing that the step does can take them away.
void StepPlanner::HoldAnchor(Sequence* s) {
  if (s->saved != nullptr) s->planned = s->saved->position();
  if (s->match.anchor == nullptr) return;
  const Anchor& anchor = *s->match.anchor;
  s->planned = anchor.position;
  s->common = anchor.position / config_.block_size;
  s->blocks.assign(anchor.blocks.begin(), anchor.blocks.begin() + s->common);
  blocks_.Own(anchor.blocks);
  if (s->common < std::ssize(anchor.blocks)) s->copy_from = anchor.blocks.back();
  s->state_from = anchor.slot;
  anchors_.Use(anchor, next_step_);
}

void StepPlanner::PromiseAnchors(Sequence* s) {
  for (size_t i = s->anchors.size(); i-- > 0;) {
    const int64_t position = s->anchors[i].position;
    if (position <= s->planned) break;
    const auto symbols = std::span(s->symbols).first(static_cast<size_t>(position));
    s->promises.push_back(anchors_.Promise(symbols));
  }
}

void StepPlanner::WithdrawPromises(Sequence* s) {
  for (PrefixTree::Node* node : s->promises) anchors_.Withdraw(node);
  s->promises.clear();
}

// If the state before the next row is one to be kept: copied into a slot of its own by the plan of that row.
void StepPlanner::SaveAnchor(Sequence* s, v1::StepPlan* plan) {
  if (s->promises.empty() || s->promises.back()->end != s->planned) return;
  const auto wanted = std::ranges::lower_bound(s->anchors, s->planned, {}, &AnchorPosition::position);
  PrefixTree::Node* promise = s->promises.back();
  s->promises.pop_back();
  if (anchors_.Has(std::span(s->symbols).first(static_cast<size_t>(s->planned)))) {
    anchors_.Withdraw(promise);
  } else {
    CopyState(s, wanted->value, promise, plan);
  }
}

// Of an answer whose end will leave no state (a stop string, a client that leaves), or that comes back in
// other tokens towards its end, most need not be run again.
void StepPlanner::SaveAnswer(Sequence* s, v1::StepPlan* plan) {
  const AnchorRules& rules = config_.answers;
  if (!s->use_anchors || rules.interval <= 0 || s->planned % rules.interval != 0) return;
  if (s->planned - s->prompt_count < rules.min_gap) return;
  CopyState(s, AnchorValue::kInterval, nullptr, plan);
}

void StepPlanner::CopyState(Sequence* s, AnchorValue value, PrefixTree::Node* promise, v1::StepPlan* plan) {
  if (!anchors_.MakeRoom(value) || slots_.free() <= admitting_) {
    if (promise != nullptr) anchors_.Withdraw(promise);
    return;
  }
  anchors_.Reserve();
  const int32_t slot = slots_.Take();
  v1::Operation* copy = plan->add_operations();
  copy->set_kind(v1::Operation::COPY_SLOT);
  copy->set_from(s->slot);
  copy->set_to(slot);
  s->copies.push_back(
      {.position = s->planned, .slot = slot, .step = plan->step(), .value = value, .promise = promise});
}

// Copies of states whose rows have answered, and without an error, become anchors.
void StepPlanner::KeepCopies(Sequence* s) {
  while (!s->copies.empty() && s->copies.front().position <= s->answered) {
    const StateCopy copy = s->copies.front();
    s->copies.erase(s->copies.begin());
    anchors_.Unreserve();
    AppendSymbols(s->ids, s->images, copy.position, &s->symbols);
    const auto symbols = std::span(s->symbols).first(static_cast<size_t>(copy.position));
    if (anchors_.Has(symbols)) {  // made by another meanwhile
      slots_.Release(std::span(&copy.slot, 1), copy.step);
    } else {
      const auto blocks = static_cast<size_t>(BlocksFor(copy.position, config_.block_size));
      anchors_.Insert(symbols, s->images, std::span(s->blocks).first(blocks), copy.slot, copy.value,
                      copy.step);
      s->common = std::max(s->common, static_cast<int64_t>(blocks));
    }
    if (copy.promise != nullptr) anchors_.Withdraw(copy.promise);
  }
}

void StepPlanner::DropCopies(Sequence* s) {
  for (const StateCopy& copy : s->copies) {
    anchors_.Unreserve();
    slots_.Release(std::span(&copy.slot, 1), copy.step);
    if (copy.promise != nullptr) anchors_.Withdraw(copy.promise);
  }
  s->copies.clear();
}

void StepPlanner::SaveDisplaced() {
  std::erase_if(displaced_, [&](Sequence* s) {
    if (s->in_flight > 0) return false;
    anchors_.Unreserve();
    InsertAnchor(s, s->saved_at);
    GiveBack(s);
    s->saved_at = 0;
    return true;
  });
}

// The slot becomes the anchor's, unless there is one already.
void StepPlanner::InsertAnchor(Sequence* s, int64_t position) {
  AppendSymbols(s->ids, s->images, position, &s->symbols);
  const auto symbols = std::span(s->symbols).first(static_cast<size_t>(position));
  if (anchors_.Has(symbols) || !anchors_.MakeRoom(AnchorValue::kBorder)) return;
  const auto blocks = static_cast<size_t>(BlocksFor(position, config_.block_size));
  anchors_.Insert(symbols, s->images, std::span(s->blocks).first(blocks), s->slot, AnchorValue::kBorder,
                  s->last_step);
  s->slot = -1;
}

}  // namespace fulger
