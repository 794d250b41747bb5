// Simulated ranks that answer at once, or at a pace: every sequence gets the same cycle of tokens, whatever
// its prompt, so that whoever reads an answer knows what must come next.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "coordinator/engine/backend.h"

namespace fulger {

struct InstantRanksOptions {
  ReplicaCapacity capacity;
  std::chrono::nanoseconds interval{0};  // between two steps; 0: at once
  std::chrono::nanoseconds phase{0};     // of the steps within the interval
  // Before the engine hears of the step: token `index` of the request with this id is in it. On the thread of
  // these ranks.
  std::function<void(const std::string& request, int64_t index)> on_token;
};

// Start, Release and Stop from the program's thread, the rest from the engine's.
class InstantRanks final : public Backend {
 public:
  explicit InstantRanks(InstantRanksOptions options) : options_(std::move(options)) {}
  ~InstantRanks() override { Stop(); }
  // `cycle`: ids, one after the other. `events` must live until Stop.
  void Start(BackendEvents* events, std::vector<int32_t> cycle);
  // Until then no step but a probe is answered: whoever measures lets all requests come first.
  void Release();
  void Stop();

  void Submit(std::shared_ptr<const v1::StepPlan> plan) override;
  void Encode(uint64_t epoch, const Pictures& pictures) override;
  void Withdraw(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Evict(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Save(uint64_t, const v1::SaveStates&) override {}
  void Fetch(uint64_t, const v1::SavedState&) override {}

 private:
  struct Sequence {
    std::string request;
    int64_t prompt = 0, max_tokens = 0;
  };
  std::shared_ptr<const v1::StepResult> Run(const v1::StepPlan& plan);
  void Work();

  const InstantRanksOptions options_;
  BackendEvents* events_ = nullptr;
  std::vector<int32_t> cycle_;
  std::unordered_map<uint64_t, Sequence> sequences_;  // of the thread below
  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<const v1::StepPlan>> plans_;
  bool released_ = false, stopping_ = false;
  std::thread thread_;
};

}  // namespace fulger
