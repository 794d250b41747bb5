// Starts a replica's workers on this host: one direct child, or one mpirun when several CPU ranks exchange
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
  std::string device = "cpu";
  int threads_per_rank = 0;  // 0: cores / ranks, at least 1
  std::vector<std::string> extra_arguments;
};

// The command line and the environment additions; separate from starting so that it can be tested literally.
struct LaunchCommand {
  std::vector<std::string> arguments;
  std::vector<std::string> environment;  // NAME=VALUE
};
LaunchCommand MakeLaunchCommand(const LaunchSpec& spec, bool as_root, int cores);

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
