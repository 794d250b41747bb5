// Many tasks on a few threads, with a report now and then. Internal to model/shards.
#pragma once

#include <cstddef>
#include <functional>

#include "base/status.h"

namespace fulger {

// task(0) .. task(count - 1). `heartbeat` runs twice a second, and once more after the last task, on the
// calling thread. The first error of either ends all, and is returned.
absl::Status RunOnThreads(int threads, size_t count, const std::function<absl::Status(size_t)>& task,
                          const std::function<absl::Status()>& heartbeat);

}  // namespace fulger
