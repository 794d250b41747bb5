// Test support: a Backend over FakeReplica whose answers come when the test (or a thread of its own) says so:
// late, in any interleaving of steps and pictures, or never, when the replica is killed.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "coordinator/engine/backend.h"
#include "coordinator/engine/fake_replica.h"

namespace fulger {

// Thread-safe. Plans run at once and in order; what is delayed is the news.
class FakeBackend final : public Backend {
 public:
  explicit FakeBackend(const ReplicaCapacity& capacity) : capacity_(capacity) {}
  ~FakeBackend() override { Stop(); }

  // The next epoch, with a fresh replica.
  void Up(BackendEvents* events);
  // Probe steps answer with this error; empty: they pass.
  void FailProbes(const std::string& error) { probe_error_ = error; }
  // What is in flight will never answer; or, if `late`, only after the next Up.
  void Kill(BackendEvents* events, bool late = false);

  // One piece of news, by hand. false: there is none.
  bool AnswerStep(BackendEvents* events);
  // States to save or to fetch. With an error none of them can be.
  bool AnswerState(BackendEvents* events, const std::string& error = {});
  bool AnswerPicture(BackendEvents* events, const absl::Status& status = absl::OkStatus());
  // Or by a thread, in random order, until Stop.
  void Start(BackendEvents* events, uint64_t seed);
  void Stop();

  bool idle() const;  // nothing to answer
  std::vector<std::string> violations() const;
  std::vector<std::shared_ptr<const v1::StepPlan>> plans() const;  // of this epoch
  int64_t encoded() const;                                         // pictures asked for in all epochs
  std::vector<std::vector<std::string>> asked_together() const;    // their keys

  void Submit(std::shared_ptr<const v1::StepPlan> plan) override;
  void Encode(uint64_t epoch, const Pictures& pictures) override;
  void Withdraw(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Evict(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Save(uint64_t epoch, const v1::SaveStates& wanted) override;
  void Fetch(uint64_t epoch, const v1::SavedState& state) override;
  size_t fetched() const;  // states in the replica's memory

 private:
  void CollectViolations();
  void AnswerSave(BackendEvents* events, const v1::SaveStates& wanted, const std::string& error);
  void AnswerFetch(BackendEvents* events, const v1::SavedState& state, const std::string& error);

  const ReplicaCapacity capacity_;
  mutable std::mutex mu_;
  std::condition_variable work_;
  uint64_t epoch_ = 0;
  std::unique_ptr<FakeReplica> replica_;
  std::deque<std::shared_ptr<const v1::StepResult>> results_;
  std::deque<std::shared_ptr<const v1::StepResult>> late_;  // of killed replicas
  std::deque<std::shared_ptr<const PreparedImage>> pictures_;
  std::set<std::string> asked_;      // encoding or kept
  std::set<std::string> withdrawn_;  // of `pictures_`; the first of those has begun
  std::vector<std::shared_ptr<const v1::StepPlan>> plans_;
  std::vector<std::string> violations_;  // of this class and of earlier replicas
  std::string probe_error_;
  std::deque<std::variant<v1::SaveStates, v1::SavedState>> states_;
  int64_t encoded_ = 0;
  std::vector<std::vector<std::string>> together_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fulger
