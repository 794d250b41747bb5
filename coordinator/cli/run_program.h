// Another program's answer: what sbatch or qstat print.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace fulger {

struct ProgramOutput {
  int exit_code = 0;  // 128 + signal where one ended it
  std::string out;    // standard output; standard error is ours
};

// Found in PATH; blocks until it ends. Not OK: it could not be started.
absl::StatusOr<ProgramOutput> RunProgram(const std::vector<std::string>& words, bool quiet = false);

}  // namespace fulger
