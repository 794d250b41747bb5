// The fabric that --transport names: the only place that knows which are built.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "worker/comm/collective.h"
#include "worker/comm/nccl_fabric.h"

namespace fulger {

// "single", "mpi" (see mpi_fabric.h for the life of the process) or "nccl", which needs `nccl`.
// FAILED_PRECONDITION with the cure for "mpi" in a process that no launcher started, for what this build
// lacks, and for "thread", which a ThreadWorld makes; INVALID_ARGUMENT for other words.
absl::StatusOr<std::unique_ptr<Fabric>> MakeFabric(std::string_view transport, const FabricOptions& options,
                                                   const NcclSetup& nccl = {});

// See mpi_fabric.h; empty in a build without MPI.
std::string MpiLibraryVersion();

}  // namespace fulger
