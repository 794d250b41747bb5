// The CPU as a device: operations finish when their call returns.
#pragma once

#include <memory>

#include "kernels/device/device.h"

namespace fulger {

absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const DeviceOptions& options);

}  // namespace fulger
