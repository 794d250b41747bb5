// Test support: sinks that remember, and requests at random.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "coordinator/engine/backend.h"
#include "coordinator/engine/engine_core.h"
#include "coordinator/engine/types.h"

namespace fulger {

class RecordingSink final : public ResponseSink {
 public:
  // Says kStop at token number `stop_at` (1, 2, ...); 0: never.
  explicit RecordingSink(size_t stop_at = 0) : stop_at_(stop_at) {}

  Next OnToken(const Token& token) override {
    std::lock_guard lock(mu_);
    tokens_.push_back(token.id);
    after_done_ = after_done_ || done_.has_value();
    return tokens_.size() == stop_at_ ? Next::kStop : Next::kContinue;
  }
  void OnDone(const Completion& completion) override {
    std::lock_guard lock(mu_);
    after_done_ = after_done_ || done_.has_value();
    done_ = completion;
    changed_.notify_all();
  }

  std::vector<int32_t> tokens() const {
    std::lock_guard lock(mu_);
    return tokens_;
  }
  std::optional<Completion> done() const {
    std::lock_guard lock(mu_);
    return done_;
  }
  Completion Wait() const {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return done_.has_value(); });
    return *done_;
  }
  bool called_after_done() const {
    std::lock_guard lock(mu_);
    return after_done_;
  }
  size_t stop_at() const { return stop_at_; }

 private:
  const size_t stop_at_;
  mutable std::mutex mu_;
  mutable std::condition_variable changed_;
  std::vector<int32_t> tokens_;
  std::optional<Completion> done_;
  bool after_done_ = false;
};

// Delivers one replica's events to a core at once, and pumps as the engine thread does.
class CoreEvents final : public BackendEvents {
 public:
  explicit CoreEvents(EngineCore* core, size_t replica = 0) : core_(core), replica_(replica) {}
  void OnUp(uint64_t epoch, const ReplicaCapacity& capacity) override {
    core_->Up(replica_, epoch, capacity);
    core_->Pump();
  }
  void OnDown(const absl::Status& why) override {
    core_->Down(replica_, why);
    core_->Pump();
  }
  void OnResult(std::shared_ptr<const v1::StepResult> result) override {
    core_->Result(replica_, *result);
    core_->Pump();
  }
  void OnProbeDue(uint64_t epoch) override {
    core_->ProbeDue(replica_, epoch);
    core_->Pump();
  }
  void OnFeaturesReady(uint64_t epoch, const std::string& key, const absl::Status& status) override {
    core_->FeaturesReady(replica_, epoch, key, status);
    core_->Pump();
  }
  void OnStatesSaved(uint64_t epoch, std::vector<v1::StatesSaved> ranks) override {
    core_->StatesSaved(replica_, epoch, ranks);
    core_->Pump();
  }
  void OnStateFetched(uint64_t epoch, uint64_t id, const absl::Status& status) override {
    core_->StateFetched(replica_, epoch, id, status);
    core_->Pump();
  }

 private:
  EngineCore* const core_;
  const size_t replica_;
};

inline EngineRequest MakeRequest(std::string id, std::vector<int32_t> prompt, int32_t max_tokens) {
  EngineRequest request{.id = std::move(id), .prompt = std::move(prompt), .images = {}, .sampling = {}};
  request.sampling.set_max_tokens(max_tokens);
  request.sampling.set_seed(7);
  return request;
}

inline std::shared_ptr<const PreparedImage> MakeImage(std::string key, int64_t tokens) {
  auto image = std::make_shared<PreparedImage>();
  image->key = std::move(key);
  image->tokens = tokens;
  return image;
}

// Up to `max_prompt` ids, pictures out of a few, stop ids, min_tokens, seeds.
inline EngineRequest RandomRequest(std::mt19937_64* random, std::string id, int64_t max_prompt) {
  const auto below = [random](int64_t n) {
    return static_cast<int64_t>((*random)() % static_cast<uint64_t>(n));
  };
  EngineRequest request = MakeRequest(std::move(id), {}, static_cast<int32_t>(1 + below(30)));
  const int64_t prompt = 1 + below(max_prompt);
  for (int64_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<int32_t>(below(1000)));
  request.sampling.set_seed((*random)());
  for (int64_t i = below(4); i > 0; --i) request.sampling.add_stop_ids(static_cast<int32_t>(below(61)));
  request.sampling.set_min_tokens(static_cast<int32_t>(below(6)));
  for (int64_t position = below(3); below(3) == 0;) {
    const int64_t rows = 1 + below(6);
    if (position + rows > prompt) break;
    request.images.push_back(
        {.position = position,
         .image = MakeImage(std::to_string(rows) + "-" + std::to_string(below(3)), rows)});
    position += rows + below(4);
  }
  return request;
}

}  // namespace fulger
