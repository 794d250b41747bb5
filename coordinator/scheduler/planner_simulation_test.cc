// Random arrivals, cancellations, early stops and shortages against the planner, with pictures, priorities,
// shared prefixes and anchors; simulated workers hold every plan to the contract.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "coordinator/scheduler/simulated_workers.h"
#include "coordinator/scheduler/step_planner.h"

namespace fulger {
namespace {

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : random_(seed),
        config_(RandomConfig()),
        planner_(config_),
        workers_(config_, &random_, [this](uint64_t id) { return planner_.Find(id); }) {}

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
    EXPECT_EQ(planner_.blocks().free() + planner_.blocks().kept(), config_.blocks);
    EXPECT_EQ(planner_.slots().free() + planner_.anchors().size(), config_.slots);
    EXPECT_LE(planner_.anchors().size(), config_.anchors.anchors);
    if (planner_.anchors().size() == 0) {
      EXPECT_EQ(planner_.blocks().kept(), 0);
    }
    EXPECT_EQ(planner_.running() + planner_.waiting(), 0);
  }
  uint64_t preemptions() const { return planner_.preemptions(); }
  uint64_t completed() const { return completed_; }
  uint64_t hits() const { return hits_; }
  uint64_t answer_hits() const { return answer_hits_; }
  uint64_t failures() const { return failures_; }
  uint64_t copies() const { return workers_.copies(); }

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
    if (Chance(4)) return Complete(config);
    config.max_running = std::min(config.max_running, config.slots);
    config.anchors = {.anchors = Between(0, 8), .memory = 200};
    config.answers = {.interval = Between(0, 6), .min_gap = Between(0, 3)};
    config.slots += config.anchors.anchors;
    return Complete(config);
  }

  PlannerConfig Complete(PlannerConfig config) {
    config.stages = Between(1, 4);
    config.steps_in_flight = Between(1, 3);
    config.features = {.bytes = 12, .row_bytes = 1, .encoding = Between(1, 3)};
    if (Chance(2)) config.features.pass_tiles = Between(1, 12);
    return config;
  }

  void Arrive() {
    auto s = std::make_unique<Sequence>();
    s->order = ++arrived_;
    s->priority = Chance(4) ? static_cast<int32_t>(Between(-2, 2)) : 0;
    s->use_anchors = !Chance(10);
    Chance(2) && !ended_.empty() ? ContinueOne(s.get()) : Draw(s.get());
    const auto prompt = s->prompt_count = std::ssize(s->ids);
    s->max_length = std::min(prompt + Between(1, 40), planner_.MaxLength());
    const std::vector<int64_t> borders = {6, 12, 20, Between(21, 40)};
    s->anchors = ChooseAnchors(prompt, borders, s->images,
                               {.interval = config_.block_size * Between(0, 3), .min_gap = Between(1, 6)},
                               Between(0, 1));
    planner_.Add(s.get());
    live_[s->order] = std::move(s);
  }

  void Draw(Sequence* s) {
    const int64_t prompt = Between(1, std::min<int64_t>(40, planner_.MaxLength() - 1));
    // A beginning that others have as well, then ids of few values.
    const int64_t shared = Chance(2) ? prompt : Between(0, prompt);
    const int64_t family = Between(10, 12);
    for (int64_t i = 0; i < prompt; ++i) {
      s->ids.push_back(static_cast<int32_t>(i < shared ? family + i : Between(0, 2)));
    }
    for (int64_t position = Between(0, 3); Chance(3);) {
      const int64_t rows = Between(1, 12);
      if (position + rows > prompt) break;
      s->images.push_back({.key = std::to_string(rows) + "-" + std::to_string(random_() % 3),
                           .position = position,
                           .rows = rows,
                           .tiles = rows});
      position += rows + Between(0, 3);
    }
  }

  // The next turn of a conversation, or one that was cut: an earlier prompt, some of its answer, and more.
  void ContinueOne(Sequence* s) {
    const Ended& before = ended_[random_() % ended_.size()];
    const int64_t most = std::min<int64_t>({std::ssize(before.ids), planner_.MaxLength() - 1, 60});
    int64_t cut = Chance(2) ? most : Between(1, most);
    for (const ImageRun& image : before.images) {
      if (image.position + image.rows <= cut) {
        s->images.push_back(image);
      } else {
        cut = std::min(cut, std::max<int64_t>(image.position, 1));
      }
    }
    std::erase_if(s->images, [&](const ImageRun& image) { return image.position + image.rows > cut; });
    s->ids.assign(before.ids.begin(), before.ids.begin() + cut);
    for (int64_t more = Between(0, 4); more > 0 && std::ssize(s->ids) < planner_.MaxLength() - 1; --more) {
      s->ids.push_back(static_cast<int32_t>(Between(3, 5)));
    }
    continues_[s->order] = before.prompt;
  }

  Sequence* Pick() {
    auto it = live_.begin();
    std::advance(it, static_cast<int64_t>(random_() % live_.size()));
    return it->second.get();
  }

  void End(Sequence* s, int64_t intact = 0, bool failed = false) {
    hits_ += s->cache.cached > 0 ? 1 : 0;
    const auto continued = continues_.extract(s->order);
    answer_hits_ += !continued.empty() && s->cache.cached > continued.mapped() ? 1 : 0;
    planner_.Remove(s, intact, failed);
    ended_.push_back({.ids = s->ids, .images = s->images, .prompt = s->prompt_count});
    if (ended_.size() > 3) ended_.pop_front();
    live_.erase(s->order);
  }

  bool Pump() {
    bool moved = false;
    while (auto plan = planner_.Next()) {
      workers_.Submit(plan);
      moved = true;
      if (testing::Test::HasFatalFailure()) return false;
    }
    const auto changes = planner_.UpdateFeatures();
    for (const auto& key : changes.evict) workers_.ready.erase(key);
    withdrawn_.insert(changes.withdraw.begin(), changes.withdraw.end());
    CheckPass(changes.encode);
    for (const auto& encode : changes.encode) encoding_.push_back(encode.sequence->images[encode.image].key);
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
    for (const uint64_t id : answer.failed) {
      ++failures_;
      if (Sequence* s = planner_.Find(id)) End(s, 0, /*failed=*/true);
    }
    for (const auto& row : *rows) {
      Sequence* s = planner_.Find(row.id);
      if (s == nullptr || !row.sampled) continue;
      const auto token = std::ranges::find(answer.tokens, row.id, &SimulatedWorkers::Token::sequence);
      EXPECT_NE(token, answer.tokens.end()) << "a live sequence was dead on the workers";
      if (token == answer.tokens.end()) continue;
      const auto intact = static_cast<int64_t>(s->ids.size());
      if (!token->stops) s->ids.push_back(token->id);
      if (token->stops || static_cast<int64_t>(s->ids.size()) == s->max_length) {
        End(s, intact);
        ++completed_;
      }
    }
    return true;
  }

  // A group is asked for when all of the one before are there, and keeps its budget.
  void CheckPass(const std::vector<StepPlanner::FeatureChanges::Encode>& group) {
    if (config_.features.pass_tiles == 0 || group.empty()) return;
    EXPECT_TRUE(encoding_.empty());
    int64_t tiles = 0;
    for (const auto& encode : group) tiles += encode.sequence->images[encode.image].tiles;
    EXPECT_TRUE(group.size() == 1 || tiles <= config_.features.pass_tiles) << tiles;
  }

  bool FinishEncoding() {
    const std::string key = encoding_.front();
    encoding_.pop_front();
    const bool withdrawn = withdrawn_.erase(key) > 0;
    if (Chance(withdrawn ? 2 : 10)) {
      EXPECT_EQ(planner_.features().Failed(key), !withdrawn);
    } else {
      EXPECT_TRUE(planner_.features().Encoded(key));
      workers_.ready.insert(key);
    }
    return true;
  }

  struct Ended {
    std::vector<int32_t> ids;
    std::vector<ImageRun> images;
    int64_t prompt = 0;
  };

  std::mt19937_64 random_;
  const PlannerConfig config_;
  StepPlanner planner_;
  SimulatedWorkers workers_;
  std::map<uint64_t, std::unique_ptr<Sequence>> live_;
  std::deque<std::string> encoding_;
  std::set<std::string> withdrawn_;  // of those
  uint64_t arrived_ = 0;
  uint64_t completed_ = 0;
  uint64_t hits_ = 0, answer_hits_ = 0, failures_ = 0;
  std::deque<Ended> ended_;                // the last ones
  std::map<uint64_t, int64_t> continues_;  // which continue one of those: how long its prompt was
};

TEST(PlannerSimulationTest, EveryInvariantHolds) {
  constexpr int requests = 100000;
  constexpr int kPerSimulation = 200;
  uint64_t preemptions = 0, completed = 0, hits = 0, copies = 0, answer_hits = 0, failures = 0;
  for (int i = 0; i < requests / kPerSimulation; ++i) {
    SCOPED_TRACE(testing::Message() << "seed " << i);
    Simulation simulation(static_cast<uint64_t>(i));
    simulation.Run(kPerSimulation);
    if (HasFailure()) return;
    preemptions += simulation.preemptions();
    completed += simulation.completed();
    hits += simulation.hits();
    copies += simulation.copies();
    answer_hits += simulation.answer_hits();
    failures += simulation.failures();
  }
  // The random configurations do reach what they are meant to test.
  EXPECT_GT(preemptions, static_cast<uint64_t>(requests) / 20);
  EXPECT_GT(completed, static_cast<uint64_t>(requests) / 3);
  EXPECT_GT(hits, static_cast<uint64_t>(requests) / 50);
  EXPECT_GT(copies, static_cast<uint64_t>(requests) / 50);
  EXPECT_GT(answer_hits, static_cast<uint64_t>(requests) / 500);
  EXPECT_GT(failures, static_cast<uint64_t>(requests) / 100);
}

}  // namespace
}  // namespace fulger
