// Random arrivals, cancellations, early stops and shortages against the planner; simulated workers hold every
// plan to the contract. FULGER_SIMULATED_REQUESTS sets the length (the slow variant: 100,000).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "coordinator/scheduler/step_planner.h"

namespace fulger {
namespace {

constexpr int32_t kToken = 7;

// What the workers know of a sequence. Blocks and slots belong to it until it is retired.
struct WorkerSequence {
  int64_t known = 0;
  int64_t ran = 0;
  int64_t max_length = 0;
  int32_t slot = -1;
  std::vector<int32_t> blocks;
  uint64_t sampled_by = 0;
  bool finished = false;  // by a stop id: later rows are dead
};

class SimulatedWorkers {
 public:
  SimulatedWorkers(const PlannerConfig& config, std::mt19937_64* random) : config_(config), random_(random) {}

  std::set<std::string> ready;  // features

  void Submit(const std::shared_ptr<const v1::StepPlan>& plan) {
    ASSERT_EQ(plan->step(), ++last_step_);
    for (const uint64_t id : plan->retired()) Retire(id);
    std::set<int32_t> zeroed;
    for (const auto& operation : plan->operations()) {
      ASSERT_EQ(operation.kind(), v1::Operation::ZERO_SLOT);
      ASSERT_TRUE(zeroed.insert(operation.to()).second);
    }
    for (const auto& announced : plan->new_sequences()) Announce(announced, zeroed);
    for (const auto& addition : plan->blocks()) AddBlocks(addition);
    Answer answer{.step = plan->step(), .tokens = {}};
    int64_t tokens = 0;
    std::set<uint64_t> rows;
    for (const auto& row : plan->rows()) {
      ASSERT_TRUE(rows.insert(row.sequence()).second) << "two rows of one sequence";
      tokens += row.count();
      RunRow(row, plan->step(), &answer);
      for (const int32_t block : sequences_.at(row.sequence()).blocks) named_[block].insert(plan->step());
      named_slots_[sequences_.at(row.sequence()).slot].insert(plan->step());
    }
    ASSERT_LE(tokens, config_.step_tokens);
    for (const auto& features : plan->features()) {
      ASSERT_TRUE(ready.contains(features.key())) << features.ShortDebugString();
    }
    answers_.push_back(answer);
  }

  struct Answer {
    uint64_t step = 0;
    std::map<uint64_t, bool> tokens;  // sequence -> stopped
  };
  bool idle() const { return answers_.empty(); }
  // The answer of the oldest step; from now on nothing in it counts as in flight.
  Answer Next() {
    Answer answer = answers_.front();
    answers_.pop_front();
    answered_ = answer.step;
    return answer;
  }
  size_t sequences() const { return sequences_.size(); }

 private:
  void Retire(uint64_t id) {
    ASSERT_TRUE(sequences_.contains(id)) << "retired twice: " << id;
    for (const int32_t block : sequences_.at(id).blocks) block_owner_.erase(block);
    slot_owner_.erase(sequences_.at(id).slot);
    sequences_.erase(id);
  }

  void ExpectNotInFlight(const std::set<uint64_t>& steps, int32_t id) const {
    ASSERT_TRUE(steps.empty() || *steps.rbegin() <= answered_)
        << "id " << id << " given out while step " << *steps.rbegin() << " names it";
  }

  void Announce(const v1::NewSequence& announced, const std::set<int32_t>& zeroed) {
    ASSERT_TRUE(zeroed.contains(announced.slot()));
    ASSERT_LT(announced.slot(), config_.slots);
    ASSERT_TRUE(slot_owner_.emplace(announced.slot(), announced.sequence()).second);
    ExpectNotInFlight(named_slots_[announced.slot()], announced.slot());
    WorkerSequence s;
    s.known = announced.ids_size();
    s.max_length = announced.prompt_count() + announced.sampling().max_tokens();
    s.slot = announced.slot();
    ASSERT_TRUE(sequences_.emplace(announced.sequence(), s).second) << "announced twice";
  }

  void AddBlocks(const v1::BlockAddition& addition) {
    for (const int32_t block : addition.blocks()) {
      ASSERT_LT(block, config_.blocks);
      ASSERT_TRUE(block_owner_.emplace(block, addition.sequence()).second) << "block owned twice: " << block;
      ExpectNotInFlight(named_[block], block);
      sequences_.at(addition.sequence()).blocks.push_back(block);
    }
  }

  void RunRow(const v1::Row& row, uint64_t step, Answer* answer) {
    ASSERT_TRUE(sequences_.contains(row.sequence())) << row.ShortDebugString();
    WorkerSequence& s = sequences_.at(row.sequence());
    ASSERT_EQ(row.position(), s.ran);
    s.ran += row.count();
    ASSERT_LE(s.ran, static_cast<int64_t>(s.blocks.size()) * config_.block_size);
    ASSERT_LT(s.ran, s.max_length) << "runs the last token";
    if (row.result_of_step() != 0) {
      ASSERT_EQ(row.count(), 1);
      ASSERT_EQ(row.result_of_step(), s.sampled_by);
      ASSERT_GE(row.position(), s.known);
    } else {
      ASSERT_LE(s.ran, s.known);
    }
    ASSERT_EQ(row.sample(), s.ran >= s.known);
    if (!row.sample()) return;
    s.sampled_by = step;
    if (s.finished) return;  // dead
    s.finished = (*random_)() % 20 == 0;
    answer->tokens[row.sequence()] = s.finished;
  }

  const PlannerConfig config_;
  std::mt19937_64* const random_;
  std::map<uint64_t, WorkerSequence> sequences_;
  std::map<int32_t, uint64_t> block_owner_, slot_owner_;
  std::map<int32_t, std::set<uint64_t>> named_, named_slots_;  // steps whose rows use the id
  std::deque<Answer> answers_;
  uint64_t last_step_ = 0, answered_ = 0;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed), config_(RandomConfig()), planner_(config_), workers_(config_, &random_) {}

  void Run(int requests) {
    int64_t quiet = 0;  // turns in which nothing moved
    while (arrived_ < static_cast<uint64_t>(requests) || !live_.empty()) {
      if (arrived_ < static_cast<uint64_t>(requests) && live_.size() < 60 && Chance(3)) Arrive();
      if (!live_.empty() && Chance(40)) End(Pick());
      bool moved = Pump();
      if (!workers_.idle() && Chance(2)) moved = TakeAnswer();
      if (!encoding_.empty() && Chance(3)) moved = FinishEncoding();
      if (testing::Test::HasFailure()) return;
      quiet = moved ? 0 : quiet + 1;
      ASSERT_LT(quiet, 500) << "stuck: " << planner_.running() << " running, " << planner_.waiting()
                            << " waiting, " << planner_.in_flight() << " in flight";
    }
    while (!workers_.idle()) TakeAnswer();
    EXPECT_EQ(planner_.blocks().free(), config_.blocks);
    EXPECT_EQ(planner_.slots().free(), config_.slots);
    EXPECT_EQ(planner_.running() + planner_.waiting(), 0);
  }
  uint64_t preemptions() const { return planner_.preemptions(); }
  uint64_t completed() const { return completed_; }

 private:
  bool Chance(uint64_t one_in) { return random_() % one_in == 0; }
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(random_() % static_cast<uint64_t>(high - low + 1));
  }

  PlannerConfig RandomConfig() {
    PlannerConfig config;
    config.epoch = 1;
    config.block_size = Between(1, 5);
    config.blocks = Between(8, 60);
    config.slots = Between(1, 12);
    config.step_tokens = Between(1, 24);
    config.max_running = Between(1, 12);
    config.stages = Between(1, 4);
    config.steps_in_flight = Between(1, 3);
    config.features = {.bytes = 12, .row_bytes = 1, .encoding = Between(1, 3)};
    return config;
  }

  void Arrive() {
    auto s = std::make_unique<Sequence>();
    s->order = ++arrived_;
    const int64_t prompt = Between(1, std::min<int64_t>(40, planner_.MaxLength() - 1));
    s->ids.assign(static_cast<size_t>(prompt), kToken);
    s->prompt_count = prompt;
    s->max_length = std::min(prompt + Between(1, 40), planner_.MaxLength());
    for (int64_t position = Between(0, 3); Chance(3);) {
      const int64_t rows = Between(1, 12);
      if (position + rows > prompt) break;
      s->images.push_back({.key = std::to_string(rows) + "-" + std::to_string(random_() % 3),
                           .position = position,
                           .rows = rows});
      position += rows + Between(0, 3);
    }
    planner_.Add(s.get());
    live_[s->order] = std::move(s);
  }

  Sequence* Pick() {
    auto it = live_.begin();
    std::advance(it, static_cast<int64_t>(random_() % live_.size()));
    return it->second.get();
  }

  void End(Sequence* s) {
    planner_.Remove(s);
    live_.erase(s->order);
  }

  bool Pump() {
    const auto changes = planner_.UpdateFeatures();
    for (const auto& key : changes.evict) workers_.ready.erase(key);
    for (const auto& encode : changes.encode) encoding_.push_back(encode.sequence->images[encode.image].key);
    bool moved = false;
    while (auto plan = planner_.Next()) {
      workers_.Submit(plan);
      moved = true;
      if (testing::Test::HasFatalFailure()) return false;
    }
    // Nothing in flight, nothing being encoded, and yet no step: that must mean that there is nothing to do.
    if (planner_.in_flight() == 0 && encoding_.empty() && !live_.empty()) {
      ADD_FAILURE() << "idle with work left:" << Describe();
    }
    return moved;
  }

  std::string Describe() const {
    std::ostringstream out;
    out << " blocks " << planner_.blocks().free() << "/" << config_.blocks << " of " << config_.block_size
        << ", slots " << planner_.slots().free() << "/" << config_.slots << ", stages " << config_.stages;
    for (const auto& [order, s] : live_) {
      out << "\n  sequence " << order << " phase " << static_cast<int>(s->phase) << " ids " << s->ids.size()
          << "/" << s->max_length << " known " << s->known << " planned " << s->planned << " blocks "
          << s->blocks.size();
      for (const ImageRun& image : s->images) out << " [" << image.key << " at " << image.position << "]";
    }
    return out.str();
  }

  bool TakeAnswer() {
    const auto answer = workers_.Next();
    const auto rows = planner_.Answered(answer.step);
    EXPECT_TRUE(rows.has_value());
    for (const auto& row : *rows) {
      Sequence* s = planner_.Find(row.id);
      if (s == nullptr || !row.sampled) continue;
      const auto token = answer.tokens.find(row.id);
      EXPECT_NE(token, answer.tokens.end()) << "a live sequence was dead on the workers";
      if (token == answer.tokens.end()) continue;
      s->ids.push_back(kToken);
      if (token->second || static_cast<int64_t>(s->ids.size()) == s->max_length) {
        End(s);
        ++completed_;
      }
    }
    return true;
  }

  bool FinishEncoding() {
    const std::string key = encoding_.front();
    encoding_.pop_front();
    if (Chance(10)) {
      EXPECT_TRUE(planner_.features().Failed(key));
    } else {
      EXPECT_TRUE(planner_.features().Encoded(key));
      workers_.ready.insert(key);
    }
    return true;
  }

  std::mt19937_64 random_;
  const PlannerConfig config_;
  StepPlanner planner_;
  SimulatedWorkers workers_;
  std::map<uint64_t, std::unique_ptr<Sequence>> live_;
  std::deque<std::string> encoding_;
  uint64_t arrived_ = 0;
  uint64_t completed_ = 0;
};

TEST(PlannerSimulationTest, EveryInvariantHolds) {
  const char* wanted = std::getenv("FULGER_SIMULATED_REQUESTS");
  const int requests = wanted == nullptr ? 10000 : std::atoi(wanted);
  constexpr int kPerSimulation = 200;
  uint64_t preemptions = 0;
  uint64_t completed = 0;
  for (int i = 0; i < requests / kPerSimulation; ++i) {
    SCOPED_TRACE(testing::Message() << "seed " << i);
    Simulation simulation(static_cast<uint64_t>(i));
    simulation.Run(kPerSimulation);
    if (HasFailure()) return;
    preemptions += simulation.preemptions();
    completed += simulation.completed();
  }
  // The random configurations do reach what they are meant to test.
  EXPECT_GT(preemptions, static_cast<uint64_t>(requests) / 20);
  EXPECT_GT(completed, static_cast<uint64_t>(requests) / 3);
}

}  // namespace
}  // namespace fulger
