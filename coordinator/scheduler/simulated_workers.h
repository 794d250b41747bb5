// Test support: workers that hold every plan to the contract. Content is symbolic: a slot holds the hash of
// all tokens and picture rows that its sequence has run, a block's cells hold such a hash per position, so
// that a wrong copy, a block shared too far or given out too early changes what a later row finds.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "coordinator/scheduler/step_planner.h"

namespace fulger {

class SimulatedWorkers {
 public:
  using Truth = std::function<const Sequence*(uint64_t id)>;

  // `truth` finds a sequence by its id in plans.
  SimulatedWorkers(const PlannerConfig& config, std::mt19937_64* random, Truth truth)
      : config_(config),
        random_(random),
        truth_(std::move(truth)),
        slots_(static_cast<size_t>(config.slots)),
        cells_(static_cast<size_t>(config.blocks * config.block_size)) {}

  std::set<std::string> ready;  // features

  struct Token {
    uint64_t sequence = 0;
    int32_t id = 0;
    bool stops = false;
  };
  struct Answer {
    uint64_t step = 0;
    std::vector<Token> tokens;
    std::vector<uint64_t> failed;  // sequences
  };

  void Submit(const std::shared_ptr<const v1::StepPlan>& plan) {
    ASSERT_EQ(plan->step(), ++step_);
    for (const uint64_t id : plan->retired()) ASSERT_EQ(sequences_.erase(id), 1u) << "retired twice: " << id;
    for (const auto& operation : plan->operations()) Operate(operation);
    for (const auto& announced : plan->new_sequences()) Announce(announced);
    for (const auto& addition : plan->blocks()) {
      for (const int32_t block : addition.blocks()) {
        ASSERT_LT(block, config_.blocks);
        sequences_.at(addition.sequence()).blocks.push_back(block);
      }
    }
    answers_.push_back({.step = step_, .tokens = {}, .failed = {}});
    int64_t tokens = 0;
    std::set<uint64_t> rows;
    for (const auto& row : plan->rows()) {
      ASSERT_TRUE(rows.insert(row.sequence()).second) << "two rows of one sequence";
      tokens += row.count();
      RunRow(*plan, row);
    }
    ASSERT_LE(tokens, config_.step_tokens);
  }

  bool idle() const { return answers_.empty(); }
  // The answer of the oldest step; from now on nothing in it counts as in flight.
  Answer Next() {
    Answer answer = std::move(answers_.front());
    answers_.pop_front();
    answered_ = answer.step;
    return answer;
  }
  uint64_t copies() const { return copies_; }

 private:
  struct WorkerSequence {
    std::vector<int32_t> ids;
    std::vector<uint64_t> prefix;  // prefix[p]: the hash of positions [0, p)
    int64_t known = 0, ran = -1, max_length = 0;
    int32_t slot = -1;
    std::vector<int32_t> blocks;
    uint64_t sampled_by = 0;
    bool finished = false;  // by a stop id or an error: later rows are dead
  };
  struct Slot {
    uint64_t hash = 0;
    int64_t positions = -1;
    uint64_t named = 0;  // the last step that uses it
  };
  struct Cell {
    uint64_t hash = 0;
    uint64_t named = 0, by = 0;  // the last step that uses it, for which sequence
  };

  static uint64_t Mix(uint64_t hash, uint64_t value) {
    uint64_t z = (hash ^ value) + 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    return z ^ (z >> 27);
  }
  static uint64_t RowValue(const std::string& key, int64_t row) {
    return Mix(std::hash<std::string>{}(key), static_cast<uint64_t>(row) + 1);
  }

  void Operate(const v1::Operation& operation) {
    const auto to = static_cast<size_t>(operation.to()), from = static_cast<size_t>(operation.from());
    if (operation.kind() == v1::Operation::COPY_BLOCK) {
      ++copies_;
      const auto size = static_cast<size_t>(config_.block_size);
      for (size_t i = 0; i < size; ++i) {
        ASSERT_LE(cells_[to * size + i].named, answered_) << "copies into block " << to << " in flight";
        cells_[to * size + i].hash = cells_[from * size + i].hash;
      }
      return;
    }
    ASSERT_LT(operation.to(), config_.slots);
    ASSERT_LE(slots_[to].named, answered_) << "writes slot " << to << " in flight";
    if (operation.kind() == v1::Operation::ZERO_SLOT) {
      slots_[to] = {.hash = 0, .positions = 0, .named = step_};
    } else {
      ASSERT_EQ(operation.kind(), v1::Operation::COPY_SLOT);
      ASSERT_GT(slots_[from].positions, 0) << "copies an empty slot";
      slots_[from].named = step_;
      slots_[to] = slots_[from];
    }
  }

  void Announce(const v1::NewSequence& announced) {
    const Sequence* truth = truth_(announced.sequence());
    WorkerSequence s;
    s.ids.assign(announced.ids().begin(), announced.ids().end());
    s.known = announced.ids_size();
    s.max_length = announced.prompt_count() + announced.sampling().max_tokens();
    s.slot = announced.slot();
    s.ran = slots_[static_cast<size_t>(s.slot)].positions;
    ASSERT_GE(s.ran, 0);
    std::vector<uint64_t> values(s.ids.begin(), s.ids.end());
    for (const ImageRun& image : truth->images) {
      for (int64_t r = 0; r < image.rows; ++r) {
        values[static_cast<size_t>(image.position + r)] = RowValue(image.key, r);
      }
    }
    s.prefix.push_back(0);
    for (const uint64_t value : values) s.prefix.push_back(Mix(s.prefix.back(), value));
    ASSERT_TRUE(sequences_.emplace(announced.sequence(), std::move(s)).second) << "announced twice";
  }

  Cell& CellOf(const WorkerSequence& s, int64_t position) {
    const int32_t block = s.blocks[static_cast<size_t>(position / config_.block_size)];
    return cells_[static_cast<size_t>(block * config_.block_size + position % config_.block_size)];
  }

  void RunRow(const v1::StepPlan& plan, const v1::Row& row) {
    ASSERT_TRUE(sequences_.contains(row.sequence())) << row.ShortDebugString();
    WorkerSequence& s = sequences_.at(row.sequence());
    Slot& slot = slots_[static_cast<size_t>(s.slot)];
    const int64_t end = row.position() + row.count();
    ASSERT_EQ(row.position(), s.ran);
    s.ran = end;
    ASSERT_LE(end, static_cast<int64_t>(s.blocks.size()) * config_.block_size);
    ASSERT_LT(end, s.max_length) << "runs the last token";
    if (row.result_of_step() != 0) {
      ASSERT_EQ(row.count(), 1);
      ASSERT_EQ(row.result_of_step(), s.sampled_by);
      ASSERT_GE(row.position(), s.known);
    } else {
      ASSERT_LE(end, s.known);
    }
    ASSERT_EQ(row.sample(), end >= s.known);
    slot.named = step_;
    if (row.sample()) s.sampled_by = step_;
    if (s.finished) return;  // dead
    if ((*random_)() % 200 == 0) return Fail(row, &s, &slot);
    ASSERT_EQ(slot.positions, row.position()) << "the slot holds another position";
    ASSERT_EQ(slot.hash, s.prefix[static_cast<size_t>(row.position())]) << "the slot holds another prefix";
    for (int64_t p = row.position(); p < end; ++p) {
      uint64_t value = static_cast<uint64_t>(s.ids[static_cast<size_t>(p)]);
      for (const auto& f : plan.features()) {
        if (f.sequence() != row.sequence() || p < f.position() || p >= f.position() + f.count()) continue;
        ASSERT_TRUE(ready.contains(f.key())) << f.ShortDebugString();
        value = RowValue(f.key(), f.first() + p - f.position());
      }
      slot.hash = Mix(slot.hash, value);
      Cell& cell = CellOf(s, p);
      ASSERT_TRUE(cell.named <= answered_ || cell.by == row.sequence()) << "writes a cell in flight";
      cell.hash = slot.hash;
    }
    slot.positions = end;
    for (int64_t p = 0; p < end; ++p) {
      Cell& cell = CellOf(s, p);
      ASSERT_EQ(cell.hash, s.prefix[static_cast<size_t>(p) + 1]) << "position " << p << " was overwritten";
      cell.named = step_;
      cell.by = row.sequence();
    }
    if (row.sample()) Sample(row.sequence(), &s);
  }

  // What it leaves in slot and cells is worth nothing.
  void Fail(const v1::Row& row, WorkerSequence* s, Slot* slot) {
    s->finished = true;
    answers_.back().failed.push_back(row.sequence());
    slot->hash = (*random_)();
    slot->positions = row.position() + row.count();
    for (int64_t p = row.position(); p < slot->positions; ++p) {
      CellOf(*s, p) = {.hash = (*random_)(), .named = step_, .by = row.sequence()};
    }
  }

  void Sample(uint64_t id, WorkerSequence* s) {
    const Token token{
        .sequence = id, .id = static_cast<int32_t>((*random_)() % 3), .stops = (*random_)() % 20 == 0};
    s->finished = token.stops || static_cast<int64_t>(s->ids.size()) + 1 == s->max_length;
    s->ids.push_back(token.id);
    s->prefix.push_back(Mix(s->prefix.back(), static_cast<uint64_t>(token.id)));
    answers_.back().tokens.push_back(token);
  }

  const PlannerConfig config_;
  std::mt19937_64* const random_;
  const Truth truth_;
  std::unordered_map<uint64_t, WorkerSequence> sequences_;
  std::vector<Slot> slots_;
  std::vector<Cell> cells_;
  std::deque<Answer> answers_;
  uint64_t step_ = 0, answered_ = 0, copies_ = 0;
};

}  // namespace fulger
