// Whether this node can load the checkpoint, and how fast: every file is there and whole (headers are read,
// weights are not), then some seconds of large reads past the page cache. A file system that hangs is named,
// not waited for.
#pragma once

#include <chrono>
#include <string>

#include "fulger/v1/doctor.pb.h"

namespace fulger {

struct CheckpointProbe {
  std::string dir;
  double read_seconds = 3;
  int reader = 0;  // of `readers` nodes: each begins at its own place, as ranks do that load
  int readers = 1;
};

// Returns by `deadline`. What hangs stays behind in a thread of its own, and the process must end by _exit.
v1::CheckpointFiles ProbeCheckpoint(const CheckpointProbe& probe, std::chrono::milliseconds deadline);

}  // namespace fulger
