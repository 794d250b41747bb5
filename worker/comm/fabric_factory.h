// The fabric that --transport names: the only place that knows which are built.
#pragma once

#include <memory>
#include <string_view>

#include "worker/comm/collective.h"

namespace fulger {

// "single" or "mpi" (see mpi_fabric.h for the life of the process). FAILED_PRECONDITION with the cure for
// "mpi" in a process that no launcher started or a build without MPI, and for transports that need more than
// a name
// ("thread": ThreadWorld; "nccl": the CUDA build); INVALID_ARGUMENT for other words.
absl::StatusOr<std::unique_ptr<Fabric>> MakeFabric(std::string_view transport, const FabricOptions& options);

}  // namespace fulger
