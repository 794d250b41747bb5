// What --device names: the CPU, or GPUs of a host, one for each rank in the order of ranks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

struct DeviceList {
  bool gpu = false;
  std::vector<int> ordinals;  // empty: every GPU from 0 on
};

// "cpu", "cuda", or "cuda:0,2,5".
absl::StatusOr<DeviceList> ParseDeviceList(std::string_view spec);

// "cpu" or "cuda:N": the device of the rank at `place` among the ranks of its host (0, 1, ...), where
// `ranks_per_device` of them that follow each other share a GPU. INVALID_ARGUMENT where the list is too
// short, with what to say instead.
absl::StatusOr<std::string> DeviceAt(const DeviceList& list, int place, int ranks_per_device);
// Those of `count` ranks from `place` on.
absl::StatusOr<std::vector<std::string>> DevicesAt(const DeviceList& list, int place, int count,
                                                   int ranks_per_device);

}  // namespace fulger
