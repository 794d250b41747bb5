#include "coordinator/scheduler/step_planner.h"

#include <google/protobuf/arena.h>

#include <algorithm>
#include <iterator>
#include <span>
#include <utility>

#include "base/check.h"

namespace fulger {
namespace {

// Masks of a grammar that the workers keep: 25 KB each for a vocabulary of 200,000.
constexpr size_t kMaxMasks = 512;

}  // namespace

namespace {

// Its thousands of rows lie in one arena, not each on the heap.
std::shared_ptr<v1::StepPlan> EmptyPlan() {
  struct Held {
    google::protobuf::Arena arena;
    v1::StepPlan* plan = google::protobuf::Arena::CreateMessage<v1::StepPlan>(&arena);
  };
  auto held = std::make_shared<Held>();
  v1::StepPlan* plan = held->plan;
  return {std::move(held), plan};
}

}  // namespace

StepPlanner::StepPlanner(const PlannerConfig& config)
    : config_(config),
      blocks_("block", config.blocks),
      slots_("slot", config.slots),
      anchors_(config.anchors, &blocks_, &slots_),
      features_(config.features) {
  FULGER_CHECK(config.anchors.anchors == 0 || config.max_running + config.anchors.anchors <= config.slots,
               "{} slots for {} sequences and {} anchors", config.slots, config.max_running,
               config.anchors.anchors);
}

void StepPlanner::Add(Sequence* sequence) {
  FULGER_CHECK(sequence->phase == Sequence::Phase::kIdle, "sequence {} added twice", sequence->order);
  FULGER_CHECK(static_cast<int64_t>(sequence->ids.size()) < sequence->max_length &&
                   sequence->max_length <= MaxLength(),
               "sequence {}: {} ids, length {}, replica holds {}", sequence->order, sequence->ids.size(),
               sequence->max_length, MaxLength());
  sequence->use_anchors = sequence->use_anchors && anchors_.enabled();
  saved_waiting_ += sequence->saved != nullptr ? 1 : 0;
  Enqueue(sequence);
}

void StepPlanner::Enqueue(Sequence* s) {
  s->phase = Sequence::Phase::kWaiting;
  waiting_.insert(std::ranges::upper_bound(waiting_, s, Before), s);
}

void StepPlanner::Remove(Sequence* sequence, int64_t intact, bool failed) {
  if (sequence->phase == Sequence::Phase::kRunning) {
    if (!failed) KeepCopies(sequence);
    if (intact > 0 && sequence->use_anchors && intact <= sequence->planned) InsertAnchor(sequence, intact);
    retired_.push_back(sequence->id);
    GiveBack(sequence);
    std::erase(running_, sequence);
  } else {
    if (std::erase(displaced_, sequence) > 0) {
      anchors_.Unreserve();
      GiveBack(sequence);
    }
    std::erase(waiting_, sequence);
    saved_waiting_ -= sequence->saved != nullptr ? 1 : 0;
    if (sequence->fetching()) dropped_states_.push_back(sequence->saved->id());
  }
  by_id_.erase(sequence->id);
  sequence->Forget();
}

void StepPlanner::GiveBack(Sequence* s) {
  blocks_.Release(s->blocks, s->last_step);
  if (s->slot >= 0) slots_.Release(std::span(&s->slot, 1), s->last_step);
  WithdrawPromises(s);
  DropCopies(s);
  s->blocks.clear();
  s->common = 0;
  s->slot = -1;
  s->planned = 0;
}

Sequence* StepPlanner::Find(uint64_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

// How far one row from position `from` may reach in the ids told to the workers.
int64_t StepPlanner::Available(const Sequence& s, int64_t from, int64_t known) const {
  int64_t end = known;
  for (const ImageRun& image : s.images) {
    if (image.position + image.rows > from && !features_.Ready(image.key)) {
      end = std::min(end, std::max(image.position, from));
      break;
    }
  }
  if (!s.MayDraw(known)) end = std::min(end, known - 1);  // the last one draws
  if (!s.use_anchors) return end;
  const auto next = std::ranges::upper_bound(s.anchors, from, {}, &AnchorPosition::position);
  return next == s.anchors.end() ? end : std::min(end, next->position);
}

bool StepPlanner::Awaits(const Sequence& s, int64_t from) const {
  return std::ranges::any_of(s.images, [&](const ImageRun& image) {
    return image.position + image.rows > from && !features_.Ready(image.key);
  });
}

SequenceView StepPlanner::View(const Sequence& s) const {
  const auto blocks = static_cast<int64_t>(s.blocks.size());
  return {.known = s.known,
          .limit = s.max_length - 1,
          .available = s.planned < s.known ? Available(s, s.planned, s.known) : s.known,
          .planned = s.planned,
          .blocks = blocks,
          .sole = blocks - s.common,
          .in_flight = s.in_flight,
          .last_step = s.last_step,
          .awaits = s.planned < s.known && Awaits(s, s.planned),
          .held = !s.MayDraw(s.planned + 1),
          .sampled_by = s.sampled_by,
          .priority = s.priority,
          .rank = s.rank()};
}

SequenceView StepPlanner::ViewWaiting(Sequence* s) {
  SequenceView view{.known = static_cast<int64_t>(s->ids.size()),
                    .limit = s->max_length - 1,
                    .in_flight = s->in_flight,
                    .priority = s->priority,
                    .rank = s->rank()};
  if (s->use_anchors && s->match_version != anchors_.version()) {
    AppendSymbols(s->ids, s->images, view.known, &s->symbols);
    s->match = anchors_.Find(s->symbols, s->images, view.known - 1);
    // Besides all its blocks it needs the one that it copies: the longest sequences have no room for that.
    const bool copies = s->match.position % config_.block_size != 0;
    if (copies && BlocksFor(view.known, config_.block_size) + 1 > config_.blocks) s->match.anchor = nullptr;
    if (s->match.anchor == nullptr) s->match.position = 0;
    s->match_version = anchors_.version();
  }
  if (s->saved != nullptr) {
    ViewSaved(s, &view);
    return view;
  }
  view.planned = s->match.position;
  view.available = Available(*s, view.planned, view.known);
  view.awaits = Awaits(*s, view.planned);
  // Somebody is making a better anchor for it.
  if (s->match.promised > s->match.position) view.available = view.planned;
  if (s->match.anchor == nullptr) return view;
  view.blocks = view.planned / config_.block_size;
  for (const int32_t block : s->match.anchor->blocks) view.pins += blocks_.is_kept(block) ? 1 : 0;
  return view;
}

ScheduleLimits StepPlanner::Limits() const {
  return {.step = next_step_,
          .step_tokens = config_.step_tokens,
          .block_size = config_.block_size,
          .free_blocks = blocks_.free() + blocks_.kept(),
          .releasing_blocks = blocks_.releasing(),
          .free_slots = slots_.free(),
          .max_running = config_.max_running,
          .stages = config_.stages,
          .rows_in_flight = config_.steps_in_flight};
}

std::vector<StepPlanner::Chosen> StepPlanner::Choose() {
  for (Sequence* s : running_) KeepCopies(s);
  while (true) {
    SaveDisplaced();
    std::vector<SequenceView> running;
    std::vector<SequenceView> waiting;
    running.reserve(running_.size());
    for (const Sequence* s : running_) running.push_back(View(*s));
    // No more than could ever be admitted at once: the queue may be long. Those that wait for something do
    // not count, or a burst of pictures would hide the text behind it.
    int64_t candidates = 0;
    for (size_t i = 0; i < waiting_.size() && candidates < config_.max_running; ++i) {
      waiting.push_back(ViewWaiting(waiting_[i]));
      const SequenceView& view = waiting.back();
      candidates += view.available > view.planned && !view.awaits ? 1 : 0;
    }

    const Decision decision = Schedule(running, waiting, Limits());
    std::vector<Chosen> chosen;
    admitting_ = 0;
    for (const PlannedRow& row : decision.rows) {  // indices are of before the preemptions
      chosen.push_back({.sequence = (row.admits ? waiting_ : running_)[row.index], .row = row});
      if (!row.admits) continue;
      HoldAnchor(chosen.back().sequence);
      ++admitting_;
    }
    ApplyPreemptions(decision);
    // What a preemption gives back may be what the others wait for.
    const bool preempted = !decision.preempted.empty() || !decision.displaced.empty();
    if (!chosen.empty() || !preempted) return chosen;
  }
}

std::shared_ptr<const v1::StepPlan> StepPlanner::Next() {
  if (in_flight() >= config_.steps_in_flight + config_.stages - 1) return nullptr;
  const std::vector<Chosen> chosen = Choose();
  if (chosen.empty()) return nullptr;
  const std::shared_ptr<v1::StepPlan> plan = NewPlan();
  for (const auto& [sequence, row] : chosen) {
    if (row.admits) Admit(sequence, plan.get());
    AddRow(sequence, row, plan.get());
  }
  return plan;
}

std::shared_ptr<v1::StepPlan> StepPlanner::NewPlan() {
  const std::shared_ptr<v1::StepPlan> plan = EmptyPlan();
  plan->set_replica(config_.replica);
  plan->set_epoch(config_.epoch);
  plan->set_step(next_step_);
  for (const uint64_t id : retired_) plan->add_retired(id);
  retired_.clear();
  for (const uint64_t id : dropped_states_) plan->add_dropped_states(id);
  dropped_states_.clear();
  in_flight_.push_back({.number = next_step_, .rows = {}});
  ++next_step_;
  return plan;
}

std::shared_ptr<const v1::StepPlan> StepPlanner::Probe() {
  FULGER_CHECK(in_flight_.empty(), "a probe beside {} steps in flight", in_flight());
  const std::shared_ptr<v1::StepPlan> plan = NewPlan();
  plan->set_probe(true);
  return plan;
}

void StepPlanner::ApplyPreemptions(const Decision& decision) {
  std::vector<std::pair<Sequence*, bool>> preempted;
  for (const size_t i : decision.preempted) preempted.emplace_back(running_[i], false);
  for (const size_t i : decision.displaced) preempted.emplace_back(running_[i], true);
  for (const auto& [s, save] : preempted) Preempt(s, save);
}

// With `save`, slot and blocks become an anchor once its rows in flight have answered: only then are all ids
// known that the state is made of. Without, or where there is no room for an anchor, they are computed again.
void StepPlanner::Preempt(Sequence* s, bool save) {
  std::erase(running_, s);
  ++preemptions_;
  retired_.push_back(s->id);
  if (save && s->use_anchors && s->planned > 0 && anchors_.MakeRoom(AnchorValue::kBorder)) {
    anchors_.Reserve();
    WithdrawPromises(s);
    DropCopies(s);
    s->saved_at = s->planned;
    displaced_.push_back(s);
  } else {
    GiveBack(s);
  }
  Enqueue(s);
}

int32_t StepPlanner::TakeBlock() {
  while (blocks_.free() == 0) FULGER_CHECK(anchors_.EvictOne(), "no block is free, and no anchor holds any");
  return blocks_.Take();
}

void StepPlanner::Admit(Sequence* s, v1::StepPlan* plan) {
  std::erase(waiting_, s);
  by_id_.erase(s->id);  // of an earlier admission: nothing of it is in flight
  s->phase = Sequence::Phase::kRunning;
  s->id = next_id_++;
  s->known = static_cast<int64_t>(s->ids.size());
  s->sampled_by = 0;
  s->last_step = 0;
  s->answered = s->planned;
  s->slot = slots_.Take();
  --admitting_;
  by_id_.emplace(s->id, s);
  running_.insert(std::ranges::upper_bound(running_, s, Before), s);
  if (!s->admitted_before) {
    s->admitted_before = true;
    s->cache = {.used = s->use_anchors,
                .cached = s->match.position,
                .matched = s->match.matched,
                .lost = s->match.lost};
  }

  v1::NewSequence* announced = plan->add_new_sequences();
  announced->set_sequence(s->id);
  announced->set_slot(s->slot);
  announced->set_request(s->request);
  announced->mutable_ids()->Add(s->ids.begin(), s->ids.end());
  announced->set_prompt_count(static_cast<int32_t>(s->prompt_count));
  *announced->mutable_sampling() = s->sampling;
  announced->mutable_sampling()->set_max_tokens(static_cast<int32_t>(s->max_length - s->prompt_count));
  v1::Operation* state = plan->add_operations();
  state->set_kind(v1::Operation::ZERO_SLOT);
  state->set_to(s->slot);
  if (s->state_from >= 0) {
    state->set_kind(v1::Operation::COPY_SLOT);
    state->set_from(s->state_from);
    s->state_from = -1;
  }
  if (s->saved != nullptr) Restore(s, plan);
  if (!s->blocks.empty()) {
    v1::BlockAddition* addition = plan->add_blocks();
    addition->set_sequence(s->id);
    addition->mutable_blocks()->Add(s->blocks.begin(), s->blocks.end());
  }
  s->match = {};
  s->match_version = 0;
  if (s->use_anchors) PromiseAnchors(s);
}

void StepPlanner::AddRow(Sequence* s, const PlannedRow& row, v1::StepPlan* plan) {
  FULGER_CHECK(row.position == s->planned && row.count > 0, "sequence {}: row {}+{} after position {}", s->id,
               row.position, row.count, s->planned);
  row.result_of_step == 0 ? SaveAnchor(s, plan) : SaveAnswer(s, plan);
  const uint64_t step = plan->step();
  const int64_t needed = BlocksFor(row.position + row.count, config_.block_size);
  if (needed > std::ssize(s->blocks)) {
    v1::BlockAddition* addition = plan->add_blocks();
    addition->set_sequence(s->id);
    while (needed > std::ssize(s->blocks)) {
      s->blocks.push_back(TakeBlock());
      addition->add_blocks(s->blocks.back());
      if (s->copy_from < 0) continue;
      v1::Operation* copy = plan->add_operations();
      copy->set_kind(v1::Operation::COPY_BLOCK);
      copy->set_from(s->copy_from);
      copy->set_to(s->blocks.back());
      blocks_.Release(std::span(&s->copy_from, 1), step);
      s->copy_from = -1;
    }
  }
  v1::Row* planned = plan->add_rows();
  planned->set_sequence(s->id);
  planned->set_position(row.position);
  planned->set_count(static_cast<int32_t>(row.count));
  planned->set_result_of_step(row.result_of_step);
  planned->set_sample(row.sample);
  if (row.sample && s->constrained) planned->set_mask(NameMask(*s, plan));
  if (row.position < s->known) AddFeatureRows(*s, row, plan);

  s->planned += row.count;
  s->last_step = step;
  if (row.sample) s->sampled_by = step;
  ++s->in_flight;
  in_flight_.back().rows.push_back({.id = s->id, .end = s->planned, .sampled = row.sample});
}

// Announces the mask where the workers do not have it; beyond what they may keep, those not named for longest
// go.
uint64_t StepPlanner::NameMask(const Sequence& s, v1::StepPlan* plan) {
  const uint64_t id = s.mask->id;
  const auto [known, fresh] = masks_.insert_or_assign(id, plan->step());
  if (!fresh) return id;
  v1::TokenMask* announced = plan->add_masks();
  announced->set_id(id);
  announced->set_bits(s.mask->bits);
  while (masks_.size() > kMaxMasks) {
    const auto oldest = std::ranges::min_element(masks_, {}, [](const auto& entry) { return entry.second; });
    if (oldest->second == plan->step()) break;
    plan->add_retired_masks(oldest->first);
    masks_.erase(oldest);
  }
  return id;
}

void StepPlanner::AddFeatureRows(const Sequence& s, const PlannedRow& row, v1::StepPlan* plan) {
  for (const ImageRun& image : s.images) {
    const int64_t begin = std::max(image.position, row.position);
    const int64_t end = std::min(image.position + image.rows, row.position + row.count);
    if (begin >= end) continue;
    v1::FeatureRows* rows = plan->add_features();
    rows->set_key(image.key);
    rows->set_first(begin - image.position);
    rows->set_count(end - begin);
    rows->set_sequence(s.id);
    rows->set_position(begin);
    features_.UsedBy(image.key, plan->step());
  }
}

std::optional<std::vector<StepPlanner::AnsweredRow>> StepPlanner::Answered(uint64_t step) {
  if (in_flight_.empty() || in_flight_.front().number != step) return std::nullopt;
  std::vector<AnsweredRow> rows = std::move(in_flight_.front().rows);
  in_flight_.pop_front();
  blocks_.StepsDone(step);
  slots_.StepsDone(step);
  features_.StepsDone(step);
  for (AnsweredRow& row : rows) {
    row.sequence = Find(row.id);
    if (row.sequence == nullptr) continue;
    --row.sequence->in_flight;
    row.sequence->answered = row.end;
  }
  return rows;
}

StepPlanner::FeatureChanges StepPlanner::UpdateFeatures() {
  std::vector<FeatureNeed> needs;
  std::vector<FeatureChanges::Encode> owners;
  const auto collect = [&](Sequence* s) {
    for (size_t i = 0; i < s->images.size(); ++i) {
      const ImageRun& image = s->images[i];
      if (image.position + image.rows <= FirstToRun(*s)) continue;
      needs.push_back({.key = image.key, .rows = image.rows, .tiles = image.tiles});
      owners.push_back({.sequence = s, .image = i});
    }
  };
  // Running ones first: a waiting one, even an older one, must not hold features while it waits for blocks of
  // running ones that wait for features.
  for (Sequence* s : running_) collect(s);
  for (int64_t i = 0; i < std::min(waiting(), config_.max_running); ++i) {
    collect(waiting_[static_cast<size_t>(i)]);
  }
  FeatureCache::Changes changes = features_.Update(needs);
  FeatureChanges result{
      .evict = std::move(changes.evict), .withdraw = std::move(changes.withdraw), .encode = {}};
  for (const size_t i : changes.encode) result.encode.push_back(owners[i]);
  return result;
}

}  // namespace fulger
