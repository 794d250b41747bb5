// Starts a replica's workers on this host: a direct child for each rank, or one mpirun where ranks exchange
// over MPI. On a cluster the scheduler starts them instead (--wait-for-workers).
#pragma once

#include <sys/types.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"

namespace fulger {

struct LaunchSpec {
  std::string worker_binary;
  std::string control_address;
  int ranks = 1;
  bool mpi = false;
  std::vector<std::string> devices = {
      "cpu"};                // of each rank: "cpu" or "cuda:N"; the last one's, of those beyond
  int ranks_per_device = 1;  // that share a GPU
  std::string hosts;         // "h1,h2:4": where mpirun starts them; empty: here
  int threads_per_rank = 0;  // 0: cores / ranks, at least 1
  std::vector<std::string> extra_arguments;
};

// The command line and the environment additions; separate from starting so that it can be tested literally.
struct LaunchCommand {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=VALUE
};
// One for each process to start.
std::vector<LaunchCommand> MakeLaunchCommands(const LaunchSpec& spec, bool as_root, int cores);

// The program `name` beside this executable; `name` alone where that cannot be told.
std::string BesideThisProgram(const std::string& name);

// A child process group. Destroying it ends the group: SIGTERM, then SIGKILL.
class ChildProcess {
 public:
  // `on_exit` is called once from a thread of its own when the process ends by itself or is stopped.
  static absl::StatusOr<std::unique_ptr<ChildProcess>> Start(
      const LaunchCommand& command, std::function<void(const std::string& how)> on_exit);
  ~ChildProcess();
  // Waits up to `seconds` for the process to end by itself, then kills the group.
  void Stop(double seconds);
  // Asks the group to end, and does not wait.
  void Terminate();
  pid_t pid() const { return pid_; }

 private:
  ChildProcess(pid_t pid, std::function<void(const std::string&)> on_exit);

  pid_t pid_;
  std::mutex mu_;
  bool exited_ = false;  // guarded by mu_
  std::condition_variable exited_cv_;
  std::thread waiter_;
};

}  // namespace fulger
