// The CUDA backend: a Device for one GPU.
#pragma once

#include <memory>

#include "kernels/device/device.h"

namespace fulger {

// UNAVAILABLE without a GPU or driver, FAILED_PRECONDITION for an architecture that this build holds no
// kernels for or without cuBLASLt: each with the cure.
absl::StatusOr<std::unique_ptr<Device>> MakeCudaDevice(int ordinal, const DeviceOptions& options);

}  // namespace fulger
