// The script of a serving job for a layout: what a scheduler must be asked for, and the variables of
// deploy/jobs. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/planner/cluster.h"

namespace fulger {

enum class Scheduler { kSlurm, kPbs };

struct JobRequest {
  Scheduler scheduler = Scheduler::kSlurm;
  std::string name = "fulger";
  std::string walltime = "04:00:00";  // as the scheduler writes it
  std::string folder;                 // absolute: the log and the job's own paths
  std::string deploy;                 // absolute: this tree's deploy/
  std::string programs;               // absolute: the folder of fulger and fulger-worker
  std::string model;                  // absolute
  std::vector<std::string> serve_flags;
  int port = 8000;
  int ranks = 1;
  std::vector<std::string> options;  // more lines for the scheduler, as in "--partition=gpu"
};

// Ranks lie on nodes in their order, as many on each as the cluster says; the last node may have fewer.
// INVALID_ARGUMENT: a value that cannot stand in a script (a line break), or more ranks than the cluster has.
absl::StatusOr<std::string> JobScript(const JobRequest& request, const Cluster& cluster);

// A word of a POSIX shell, quoted where it must be.
std::string ShellWord(std::string_view text);

}  // namespace fulger
