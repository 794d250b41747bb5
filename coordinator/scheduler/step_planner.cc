#include "coordinator/scheduler/step_planner.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"

namespace fulger {
namespace {

// Masks of a grammar that the workers keep: 25 KB each for a vocabulary of 200,000.
constexpr size_t kMaxMasks = 512;

}  // namespace

StepPlanner::StepPlanner(const PlannerConfig& config)
    : config_(config),
      blocks_("block", config.blocks),
      slots_("slot", config.slots),
      features_(config.features) {}

void StepPlanner::Add(Sequence* sequence) {
  FULGER_CHECK(sequence->phase == Sequence::Phase::kIdle, "sequence {} added twice", sequence->order);
  FULGER_CHECK(static_cast<int64_t>(sequence->ids.size()) < sequence->max_length &&
                   sequence->max_length <= MaxLength(),
               "sequence {}: {} ids, length {}, replica holds {}", sequence->order, sequence->ids.size(),
               sequence->max_length, MaxLength());
  Enqueue(sequence);
}

void StepPlanner::Enqueue(Sequence* s) {
  s->phase = Sequence::Phase::kWaiting;
  waiting_.insert(std::ranges::upper_bound(waiting_, s->order, {}, &Sequence::order), s);
}

void StepPlanner::Remove(Sequence* sequence) {
  if (sequence->phase == Sequence::Phase::kRunning) {
    GiveBack(sequence);
    std::erase(running_, sequence);
  } else {
    std::erase(waiting_, sequence);
  }
  by_id_.erase(sequence->id);
  sequence->Forget();
}

void StepPlanner::GiveBack(Sequence* s) {
  blocks_.Release(s->blocks, s->last_step);
  slots_.Release(std::span(&s->slot, 1), s->last_step);
  retired_.push_back(s->id);
  s->blocks.clear();
  s->slot = -1;
  s->planned = 0;
}

Sequence* StepPlanner::Find(uint64_t id) const {
  const auto it = by_id_.find(id);
  return it == by_id_.end() ? nullptr : it->second;
}

int64_t StepPlanner::Available(const Sequence& s) const {
  for (const ImageRun& image : s.images) {
    if (image.position + image.rows > s.planned && !features_.Ready(image.key)) {
      return std::max(image.position, s.planned);
    }
  }
  const auto ids = static_cast<int64_t>(s.ids.size());
  return s.MayDraw(ids) ? ids : ids - 1;  // the last one draws
}

SequenceView StepPlanner::View(const Sequence& s) const {
  const bool running = s.phase == Sequence::Phase::kRunning;
  const int64_t known = running ? s.known : static_cast<int64_t>(s.ids.size());
  return {.known = known,
          .limit = s.max_length - 1,
          .available = s.planned < known ? std::min(Available(s), known) : known,
          .planned = s.planned,
          .blocks = static_cast<int64_t>(s.blocks.size()),
          .in_flight = s.in_flight,
          .last_step = s.last_step,
          .held = !s.MayDraw(s.planned + 1),
          .sampled_by = s.sampled_by};
}

ScheduleLimits StepPlanner::Limits() const {
  return {.step = next_step_,
          .step_tokens = config_.step_tokens,
          .block_size = config_.block_size,
          .free_blocks = blocks_.free(),
          .releasing_blocks = blocks_.releasing(),
          .free_slots = slots_.free(),
          .max_running = config_.max_running,
          .stages = config_.stages,
          .rows_in_flight = config_.steps_in_flight};
}

std::shared_ptr<const v1::StepPlan> StepPlanner::Next() {
  if (in_flight() >= config_.steps_in_flight + config_.stages - 1) return nullptr;
  std::vector<SequenceView> running;
  std::vector<SequenceView> waiting;
  for (const Sequence* s : running_) running.push_back(View(*s));
  // No more than could ever be admitted at once: the queue may be long.
  const size_t window = std::min(waiting_.size(), static_cast<size_t>(config_.max_running));
  for (size_t i = 0; i < window; ++i) waiting.push_back(View(*waiting_[i]));

  const Decision decision = Schedule(running, waiting, Limits());
  std::vector<Sequence*> sequences;  // of the rows: indices are of before the preemptions
  for (const PlannedRow& row : decision.rows) {
    sequences.push_back((row.admits ? waiting_ : running_)[row.index]);
  }
  ApplyPreemptions(decision);
  if (decision.rows.empty()) return nullptr;

  const std::shared_ptr<v1::StepPlan> plan = NewPlan();
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (decision.rows[i].admits) Admit(sequences[i], plan.get());
    AddRow(sequences[i], decision.rows[i], plan.get());
  }
  return plan;
}

std::shared_ptr<v1::StepPlan> StepPlanner::NewPlan() {
  auto plan = std::make_shared<v1::StepPlan>();
  plan->set_replica(config_.replica);
  plan->set_epoch(config_.epoch);
  plan->set_step(next_step_);
  for (const uint64_t id : retired_) plan->add_retired(id);
  retired_.clear();
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
  std::vector<Sequence*> preempted;
  for (const size_t i : decision.preempted) preempted.push_back(running_[i]);
  for (Sequence* s : preempted) {
    GiveBack(s);
    std::erase(running_, s);
    Enqueue(s);
    ++preemptions_;
  }
}

void StepPlanner::Admit(Sequence* s, v1::StepPlan* plan) {
  std::erase(waiting_, s);
  by_id_.erase(s->id);  // of an earlier admission: nothing of it is in flight
  s->phase = Sequence::Phase::kRunning;
  s->id = next_id_++;
  s->known = static_cast<int64_t>(s->ids.size());
  s->sampled_by = 0;
  s->last_step = 0;
  s->slot = slots_.Take();
  by_id_.emplace(s->id, s);
  running_.insert(std::ranges::upper_bound(running_, s->order, {}, &Sequence::order), s);

  v1::Operation* zero = plan->add_operations();
  zero->set_kind(v1::Operation::ZERO_SLOT);
  zero->set_to(s->slot);
  v1::NewSequence* announced = plan->add_new_sequences();
  announced->set_sequence(s->id);
  announced->set_slot(s->slot);
  announced->mutable_ids()->Add(s->ids.begin(), s->ids.end());
  announced->set_prompt_count(static_cast<int32_t>(s->prompt_count));
  *announced->mutable_sampling() = s->sampling;
  announced->mutable_sampling()->set_max_tokens(static_cast<int32_t>(s->max_length - s->prompt_count));
}

void StepPlanner::AddRow(Sequence* s, const PlannedRow& row, v1::StepPlan* plan) {
  FULGER_CHECK(row.position == s->planned && row.count > 0, "sequence {}: row {}+{} after position {}", s->id,
               row.position, row.count, s->planned);
  if (row.new_blocks > 0) {
    v1::BlockAddition* addition = plan->add_blocks();
    addition->set_sequence(s->id);
    for (int64_t i = 0; i < row.new_blocks; ++i) {
      s->blocks.push_back(blocks_.Take());
      addition->add_blocks(s->blocks.back());
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

  const uint64_t step = plan->step();
  s->planned += row.count;
  s->last_step = step;
  if (row.sample) s->sampled_by = step;
  ++s->in_flight;
  in_flight_.back().rows.push_back({.id = s->id, .sampled = row.sample});
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
  for (const AnsweredRow& row : rows) {
    if (Sequence* s = Find(row.id)) --s->in_flight;
  }
  return rows;
}

StepPlanner::FeatureChanges StepPlanner::UpdateFeatures() {
  std::vector<FeatureNeed> needs;
  std::vector<FeatureChanges::Encode> owners;
  const auto collect = [&](Sequence* s) {
    for (size_t i = 0; i < s->images.size(); ++i) {
      const ImageRun& image = s->images[i];
      if (image.position + image.rows <= s->planned) continue;
      needs.push_back({.key = image.key, .rows = image.rows});
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
  FeatureChanges result{.evict = std::move(changes.evict), .encode = {}};
  for (const size_t i : changes.encode) result.encode.push_back(owners[i]);
  return result;
}

}  // namespace fulger
