// What a device whose memory is its own (a GPU) can say of it. The CPU's is the host's, and others watch
// that.
#pragma once

#include <cstdint>
#include <string>

#include "kernels/device/device.h"

namespace fulger {

// In bytes.
struct DeviceMemory {
  int64_t free = 0;  // what nobody has taken, other processes included
  int64_t total = 0;
  int64_t own = 0;  // of what is not free: this device's handles and their workspace, but not its context
};

class HasOwnMemory {
 public:
  virtual ~HasOwnMemory() = default;
  // "NVIDIA H100 80GB HBM3".
  virtual std::string Model() const = 0;
  virtual DeviceMemory Memory() const = 0;
};

// Null for a device that computes in the host's memory.
inline const HasOwnMemory* OwnMemoryOf(const Device& device) {
  return dynamic_cast<const HasOwnMemory*>(&device);
}

}  // namespace fulger
