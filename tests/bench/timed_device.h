// The CPU device with a stopwatch around every op: what each reads, computes and takes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "kernels/device/device.h"
#include "kernels/ops/ops.h"

namespace fulger {

struct OpTotals {
  int64_t calls = 0;
  double seconds = 0;
  // Compulsory traffic: weights, states, keys and values once each. Activations are not counted: they stay in
  // the caches.
  double bytes = 0;
  double flops = 0;
};

// By op, and for products by the shape of the weight: "linear 6144x2048". Read it between steps.
using OpTable = std::map<std::string, OpTotals>;

// `table` must outlive the device.
absl::StatusOr<std::unique_ptr<Device>> MakeTimedCpuDevice(const DeviceOptions& options, OpTable* table);

}  // namespace fulger
