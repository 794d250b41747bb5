// N ranks as N threads of one process: how most distributed tests run. Waiters sleep on condition variables
// (no spinning), so 32 ranks on two cores are fine. Data is host memory; the threads read each other's
// tensors.
#pragma once

#include <memory>

#include "worker/comm/collective.h"

namespace fulger {

class ThreadWorld {
 public:
  explicit ThreadWorld(int size, const FabricOptions& options = {});
  ~ThreadWorld();
  ThreadWorld(const ThreadWorld&) = delete;
  ThreadWorld& operator=(const ThreadWorld&) = delete;

  // The view of `rank`, for one thread; once per rank. Fabrics may outlive the world object. Destroying a
  // fabric tells nobody: peers that wait for it reach their deadline, or are woken by Abort.
  std::unique_ptr<Fabric> MakeFabric(int rank);
  // Fabric::Abort without a fabric: wakes every rank.
  void Abort(const absl::Status& why);

  struct State;  // thread_state.h

 private:
  // Shared with the fabrics, collectives and links of all ranks.
  const std::shared_ptr<State> state_;
};

}  // namespace fulger
