// An engine's Backend over a ThreadReplica: the whole way from a request to its tokens in one process, with
// real weights, layers and collectives, and without gRPC or MPI.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/engine/backend.h"
#include "coordinator/engine/types.h"
#include "tests/golden/model/golden.h"
#include "tests/support/plan_builder.h"
#include "tests/support/thread_replica.h"

namespace fulger {

// The pictures of a golden case's request, as the engine takes them. `tile_side` in pixels.
std::vector<ImageSpan> GoldenImages(const golden::ModelCase& golden, const DriverRequest& request,
                                    int64_t tile_side);

// Up and Down from the test's thread; the rest is the engine's.
class ThreadBackend final : public Backend {
 public:
  // `dir`: the checkpoint.
  ThreadBackend(std::string dir, const Layout& layout, const ThreadReplicaOptions& options)
      : dir_(std::move(dir)), layout_(layout), options_(options) {}
  ~ThreadBackend() override;

  // Starts the next epoch's replica and announces it.
  absl::Status Up(BackendEvents* events);
  // Kills it; the events must be alive.
  void Down(const absl::Status& why);

  void Submit(std::shared_ptr<const v1::StepPlan> plan) override;
  void Encode(uint64_t epoch, const Pictures& pictures) override;
  void Withdraw(uint64_t, const std::vector<std::string>&) override {}  // what was asked for has begun
  void Evict(uint64_t epoch, const std::vector<std::string>& keys) override;
  void Save(uint64_t epoch, const v1::SaveStates& wanted) override;
  void Fetch(uint64_t epoch, const v1::SavedState& state) override;

 private:
  void Stop();

  const std::string dir_;
  const Layout layout_;
  const ThreadReplicaOptions options_;
  BackendEvents* events_ = nullptr;
  std::mutex mu_;  // guards replica_ and epoch_ against the engine thread
  uint64_t epoch_ = 0;
  std::unique_ptr<ThreadReplica> replica_;
  std::thread results_, pictures_;
};

}  // namespace fulger
