// What the process that started us (mpirun, srun) says in the environment. Hints only: with NCCL the
// coordinator gives out ranks.
#pragma once

#include <functional>
#include <string_view>

#include "base/status.h"

namespace fulger {

// How to mend every "MPI does not see the other ranks".
inline constexpr char kStartMpiRanks[] =
    "CPU ranks exchange over MPI; start them with one mpirun or srun --mpi=pmix";

struct Launcher {
  std::string_view name = "none";  // of a literal: "mpirun", "slurm", "pmix" or "none"
  int rank = 0;
  int size = 0;         // 0: not said
  int local_rank = -1;  // on this host; -1: not said
  bool pmi = true;      // offers what MPI learns of its peers by; false: srun --mpi=none, or no such plugin
};

using GetEnv = std::function<const char*(const char* name)>;

// Reads OMPI_COMM_WORLD_RANK/SIZE/LOCAL_RANK, else SLURM_PROCID/NTASKS/LOCALID of a step, else PMIX_RANK. A
// value that is no number is INVALID_ARGUMENT naming the variable. Default: the process's environment.
absl::StatusOr<Launcher> ProbeLauncher(const GetEnv& getenv = nullptr);

}  // namespace fulger
