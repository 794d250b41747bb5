#include "coordinator/engine/fake_replica.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

namespace fulger {
namespace {

uint64_t Mix(uint64_t hash, uint64_t value) {
  uint64_t z = (hash ^ value) + 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

uint64_t FeatureValue(const std::string& key, int64_t row) {
  return Mix(std::hash<std::string>{}(key), static_cast<uint64_t>(row));
}

bool IsStop(const v1::SamplingParams& sampling, int32_t id) {
  return std::ranges::find(sampling.stop_ids(), id) != sampling.stop_ids().end();
}

// min_tokens hides the stop ids while fewer tokens have been generated.
int32_t NextToken(uint64_t hash, int64_t position, int64_t generated, const v1::SamplingParams& sampling) {
  const uint64_t drawn = Mix(Mix(hash, sampling.seed()), static_cast<uint64_t>(position));
  int32_t id = static_cast<int32_t>(drawn % kToyVocabulary);
  while (generated < sampling.min_tokens() && IsStop(sampling, id)) id = (id + 1) % kToyVocabulary;
  return id;
}

}  // namespace

ToyAnswer ToyReference(const EngineRequest& request, int64_t max_length) {
  std::vector<uint64_t> values(request.prompt.begin(), request.prompt.end());
  for (const ImageSpan& span : request.images) {
    for (int64_t i = 0; i < span.image->tokens; ++i) {
      values[static_cast<size_t>(span.position + i)] = FeatureValue(span.image->key, i);
    }
  }
  uint64_t hash = 0;
  for (const uint64_t value : values) hash = Mix(hash, value);
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  const int64_t end = std::min(max_length, prompt + request.sampling.max_tokens());
  ToyAnswer answer;
  for (int64_t position = prompt; position < end; ++position) {
    const int32_t id = NextToken(hash, position, position - prompt, request.sampling);
    if (IsStop(request.sampling, id)) {
      answer.reason = FinishReason::kStopId;
      answer.stop_id = id;
      return answer;
    }
    answer.tokens.push_back(id);
    hash = Mix(hash, static_cast<uint64_t>(id));
  }
  return answer;
}

void FakeReplica::Expect(bool ok, const std::string& what) {
  if (!ok) violations_.push_back(fmt::format("step {}: {}", step_, what));
}

v1::StepResult FakeReplica::Run(const v1::StepPlan& plan) {
  Expect(plan.step() == step_ + 1, fmt::format("numbered {}", plan.step()));
  step_ = plan.step();
  for (const uint64_t id : plan.retired_masks()) masks_.erase(id);
  for (const uint64_t id : plan.retired()) {
    Expect(sequences_.contains(id), fmt::format("retires unknown sequence {}", id));
    slot_owner_.erase(sequences_[id].slot);
    sequences_.erase(id);
    retired_.insert(id);
  }
  Operate(plan);
  Announce(plan);
  Restore(plan);
  v1::StepResult result;
  result.set_replica(plan.replica());
  result.set_epoch(plan.epoch());
  result.set_step(plan.step());
  Named named{.step = plan.step(), .blocks = {}, .slots = {}, .features = {}};
  int64_t tokens = 0;
  for (const v1::Row& row : plan.rows()) {
    tokens += row.count();
    if (!sequences_.contains(row.sequence())) {
      Expect(false, fmt::format("runs sequence {}, retired or never announced", row.sequence()));
      continue;
    }
    RunRow(plan, row, &result);
    const State& s = sequences_[row.sequence()];
    named.blocks.insert(s.blocks.begin(), s.blocks.end());
    named.slots.insert(s.slot);
  }
  for (const v1::FeatureRows& rows : plan.features()) named.features.insert(rows.key());
  Expect(tokens <= capacity_.max_step_tokens, fmt::format("{} tokens", tokens));
  in_flight_.push_back(std::move(named));
  return result;
}

void FakeReplica::Operate(const v1::StepPlan& plan) {
  for (const v1::Operation& operation : plan.operations()) {
    const bool block = operation.kind() == v1::Operation::COPY_BLOCK;
    for (const Named& named : in_flight_) {
      Expect(!(block ? named.blocks : named.slots).contains(operation.to()),
             fmt::format("{} writes what step {} in flight names", operation.ShortDebugString(), named.step));
    }
    if (block) {
      cells_[operation.to()] = cells_[operation.from()];
      continue;
    }
    SlotState& to = slots_[operation.to()];
    to = operation.kind() == v1::Operation::COPY_SLOT ? slots_[operation.from()] : SlotState{};
    to.fresh = true;
  }
}

void FakeReplica::Announce(const v1::StepPlan& plan) {
  for (const v1::TokenMask& mask : plan.masks()) {
    Expect(masks_.emplace(mask.id(), mask.bits()).second, fmt::format("announces mask {} again", mask.id()));
  }
  for (const v1::NewSequence& announced : plan.new_sequences()) {
    const uint64_t id = announced.sequence();
    Expect(!sequences_.contains(id) && !retired_.contains(id), fmt::format("announces {} again", id));
    Expect(announced.slot() >= 0 && announced.slot() < capacity_.slots, "slot out of range");
    Expect(slot_owner_.emplace(announced.slot(), id).second, fmt::format("slot {} shared", announced.slot()));
    Expect(slots_[announced.slot()].fresh, fmt::format("slot {} was not prepared", announced.slot()));
    slots_[announced.slot()].fresh = false;
    State& s = sequences_[id];
    s.ids.assign(announced.ids().begin(), announced.ids().end());
    s.prompt_count = announced.prompt_count();
    s.sampling = announced.sampling();
    s.slot = announced.slot();
  }
  for (const v1::BlockAddition& addition : plan.blocks()) {
    for (const int32_t block : addition.blocks()) {
      Expect(block >= 0 && block < capacity_.blocks, fmt::format("block {} out of range", block));
      sequences_[addition.sequence()].blocks.push_back(block);
    }
  }
}

std::shared_ptr<const FakeReplica::Kept> FakeReplica::Keep(int32_t slot,
                                                           const std::vector<int32_t>& blocks) const {
  auto kept = std::make_shared<Kept>();
  kept->slot = slots_.at(slot);
  for (const int32_t block : blocks) {
    const auto found = cells_.find(block);
    kept->blocks.push_back(found == cells_.end() ? std::vector<Cell>() : found->second);
  }
  return kept;
}

void FakeReplica::Restore(const v1::StepPlan& plan) {
  for (const v1::RestoredState& restored : plan.restored()) {
    const auto found = fetched_.find(restored.state());
    Expect(found != fetched_.end(), fmt::format("restores state {}, not fetched", restored.state()));
    if (found == fetched_.end()) continue;
    const State& s = sequences_[restored.sequence()];
    Expect(s.blocks.size() >= found->second->blocks.size(), "restores more blocks than there are");
    if (!violations_.empty()) return;
    slots_[s.slot] = found->second->slot;
    for (size_t i = 0; i < found->second->blocks.size(); ++i) cells_[s.blocks[i]] = found->second->blocks[i];
    fetched_.erase(found);
  }
  for (const uint64_t id : plan.dropped_states()) fetched_.erase(id);
}

void FakeReplica::RunRow(const v1::StepPlan& plan, const v1::Row& row, v1::StepResult* result) {
  State& s = sequences_[row.sequence()];
  if (s.dead) return;  // writes nothing, brings no token
  if (row.result_of_step() != 0) {
    Expect(row.count() == 1 && row.result_of_step() == s.sampled_by,
           fmt::format("row {} refers to the wrong step", row.ShortDebugString()));
  }
  const int64_t end = row.position() + row.count();
  Expect(end <= static_cast<int64_t>(s.ids.size()),
         fmt::format("sequence {} has no id at position {}", row.sequence(), end - 1));
  Expect(end <= static_cast<int64_t>(s.blocks.size()) * capacity_.block_size,
         fmt::format("sequence {} has no block for position {}", row.sequence(), end - 1));
  Expect(slots_[s.slot].positions == row.position(),
         fmt::format("sequence {} runs position {} after {}", row.sequence(), row.position(),
                     slots_[s.slot].positions));
  if (!violations_.empty()) return;  // the first ones are what matters
  FindAnchored(row.position(), &s);
  const uint64_t hash = Absorb(plan, row, &s);
  CheckCache(row.sequence(), s, end);
  Expect(row.sample() == (end == static_cast<int64_t>(s.ids.size())), "samples elsewhere than at the end");
  if (row.sample()) Sample(row, hash, &s, plan.step(), result);
}

// Runs the positions: into the slot's state and into their blocks.
uint64_t FakeReplica::Absorb(const v1::StepPlan& plan, const v1::Row& row, State* s) {
  SlotState& slot = slots_[s->slot];
  for (int64_t p = row.position(); p < row.position() + row.count(); ++p) {
    uint64_t value = static_cast<uint64_t>(s->ids[static_cast<size_t>(p)]);
    for (const v1::FeatureRows& f : plan.features()) {
      if (f.sequence() != row.sequence() || p < f.position() || p >= f.position() + f.count()) continue;
      const int64_t feature_row = f.first() + p - f.position();
      Expect(features_.contains(f.key()) && feature_row < features_[f.key()], "names features not ready");
      value = FeatureValue(f.key(), feature_row);
    }
    slot.hash = Mix(slot.hash, value);
    ++slot.positions;
    CellOf(*s, p) = {.hash = slot.hash, .position = p};
    s->states.push_back(slot.hash);
  }
  return slot.hash;
}

FakeReplica::Cell& FakeReplica::CellOf(const State& s, int64_t position) {
  auto& cells = cells_[s.blocks[static_cast<size_t>(position / capacity_.block_size)]];
  cells.resize(static_cast<size_t>(capacity_.block_size));
  return cells[static_cast<size_t>(position % capacity_.block_size)];
}

// The first row of a sequence that continues from an anchor: its blocks must end in the state of its slot.
void FakeReplica::FindAnchored(int64_t position, State* s) {
  while (static_cast<int64_t>(s->states.size()) < position) {
    s->states.push_back(CellOf(*s, static_cast<int64_t>(s->states.size())).hash);
  }
  Expect(position == 0 || s->states.back() == slots_[s->slot].hash, "an anchor's blocks are not its slot's");
}

// Attention would read every position so far: nobody else may have written there.
void FakeReplica::CheckCache(uint64_t id, const State& s, int64_t positions) {
  for (int64_t p = 0; p < positions; ++p) {
    const Cell& cell = CellOf(s, p);
    Expect(cell.hash == s.states[static_cast<size_t>(p)] && cell.position == p,
           fmt::format("sequence {} position {} was overwritten by position {}", id, p, cell.position));
  }
}

void FakeReplica::Sample(const v1::Row& row, uint64_t hash, State* s, uint64_t step, v1::StepResult* result) {
  s->sampled_by = step;
  if (std::ranges::find(s->ids, kPoisonId) != s->ids.end()) {
    v1::SequenceError* error = result->add_errors();
    error->set_sequence(row.sequence());
    error->set_message("layer 3: not a number");
    s->dead = true;
    return;
  }
  const int64_t position = static_cast<int64_t>(s->ids.size());
  const int64_t generated = position - s->prompt_count;
  v1::SampledToken* token = result->add_tokens();
  token->set_sequence(row.sequence());
  token->set_position(position);
  token->set_id(NextToken(hash, position, generated, s->sampling));
  if (row.mask() != 0) {  // the first allowed one from there on
    Expect(masks_.contains(row.mask()), fmt::format("mask {} was never announced", row.mask()));
    const std::string& bits = masks_[row.mask()];
    const auto allowed = [&](int32_t id) {
      const auto byte = static_cast<size_t>(id) / 8;
      return byte < bits.size() && (static_cast<unsigned char>(bits[byte]) >> (id % 8) & 1) != 0;
    };
    for (int tried = 0; tried < kToyVocabulary && !allowed(token->id()); ++tried) {
      token->set_id((token->id() + 1) % kToyVocabulary);
    }
    Expect(allowed(token->id()), fmt::format("mask {} allows nothing", row.mask()));
  }
  token->set_logprob(-0.5F);
  if (IsStop(s->sampling, token->id())) {
    token->set_finish(v1::SampledToken::STOP_ID);
  } else if (generated + 1 >= s->sampling.max_tokens()) {
    token->set_finish(v1::SampledToken::LENGTH);
  }
  s->dead = token->finish() != v1::SampledToken::NOT_FINISHED;
  s->ids.push_back(token->id());
}

void FakeReplica::Answered(uint64_t step) {
  while (!in_flight_.empty() && in_flight_.front().step <= step) in_flight_.pop_front();
}

void FakeReplica::FeaturesReady(const std::string& key, int64_t rows) { features_[key] = rows; }

void FakeReplica::Evict(const std::string& key) {
  Expect(features_.erase(key) == 1, "evicts features that are not there");
  for (const Named& named : in_flight_) {
    Expect(!named.features.contains(key), fmt::format("evicts features of step {} in flight", named.step));
  }
}

}  // namespace fulger
