// One worker process from its first dial to its end.
#pragma once

#include <chrono>
#include <string>

#include "worker/service/executor.h"

namespace fulger {

struct WorkerOptions {
  std::string coordinator;     // HOST:PORT or unix:PATH
  int rank = -1;               // overrides the launcher's hint
  std::string device = "cpu";  // as --device says; a list has an entry for each rank of this host
  std::string host;  // the address that other workers dial; empty: as it is seen from the coordinator
  std::chrono::milliseconds join_deadline{120000};
  ExecutorOptions executor;
};

// The process's exit code: 0 after a clean shutdown, 1 with a logged reason otherwise. May end the process
// directly when a thread is stuck inside a transport that died.
int RunWorker(const WorkerOptions& options);

}  // namespace fulger
