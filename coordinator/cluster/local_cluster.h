// A replica with its control listener, its watchdog and, unless workers are started by somebody else, its own
// workers: what `fulger serve` and `fulger generate` hold. When the replica fails and the workers are ours,
// they are started again, with a pause that grows while failures follow each other. A replica that never
// served is not started again: what keeps it from loading is told to whoever started us. The same holds for
// workers that a job starts along with us (wait_for_workers, and a deadline of the launch).
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "coordinator/cluster/join_server.h"
#include "coordinator/cluster/launcher.h"
#include "coordinator/cluster/replica.h"

namespace fulger {

struct ClusterOptions {
  ReplicaOptions replica;
  std::string control_address;  // empty: a Unix socket in a private folder (one rank), or 127.0.0.1:0
  bool wait_for_workers = false;
  LaunchSpec launch;  // control_address, ranks and mpi are filled in
  int max_restarts_in_a_row = 5;
};

class LocalCluster {
 public:
  // Listens; starts nothing yet.
  static absl::StatusOr<std::unique_ptr<LocalCluster>> Create(const Plan& plan, const ClusterOptions& options,
                                                              const Clock* clock);
  ~LocalCluster();

  Replica& replica() { return *replica_; }
  const std::string& control_address() const { return options_.launch.control_address; }
  // Starts the workers (or begins to wait for them) and the watchdog. Call after replica().SetEvents.
  absl::Status Start();
  // Not OK once the replica failed too often in a row to be started again.
  absl::Status health() const;
  // Blocks until the replica serves, gave up or `timeout` passed.
  absl::Status WaitUntilServing(Duration timeout);
  // Ends workers, watchdog and listener: no event follows. Idempotent, one thread.
  void Stop(const std::string& reason);

 private:
  LocalCluster() = default;
  void Watch();
  void OnFailure();
  void OnExit(uint64_t launch, const std::string& who, const std::string& how);
  absl::Status Launch();
  void EndWorkers();
  bool Relaunch(std::unique_lock<std::mutex>& lock);
  void GiveUpLocked(absl::Status why);

  ClusterOptions options_;
  std::string socket_folder_;  // removed at the end
  std::unique_ptr<Replica> replica_;
  std::unique_ptr<JoinServer> server_;
  mutable std::mutex mu_;
  std::condition_variable wake_;
  bool stopping_ = false;
  bool relaunch_ = false;
  int failures_in_a_row_ = 0;
  uint64_t launches_ = 0;
  std::string exited_;  // how the present workers ended; empty: they run
  std::chrono::steady_clock::time_point exited_at_;
  absl::Status gave_up_;
  std::vector<std::unique_ptr<ChildProcess>> workers_;  // watchdog thread only, after Start
  std::thread watchdog_;
};

}  // namespace fulger
