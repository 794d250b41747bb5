// A fabric of host memory for ranks whose tensors are on a device: each operation takes its tensor to the
// host, runs there, and brings it back. For tests with several ranks on one GPU, and for a transport that was
// asked for by name (mpi on GPU ranks); nothing chooses it silently.
#pragma once

#include <memory>

#include "kernels/device/device.h"
#include "worker/comm/collective.h"

namespace fulger {

// Operations wait for the stream. Tensors that `device` does not hold go straight to `inner`. The device must
// outlive what is made from the fabric.
std::unique_ptr<Fabric> MakeStagedFabric(std::unique_ptr<Fabric> inner, Device& device);

}  // namespace fulger
