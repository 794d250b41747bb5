// CPU ranks as processes that one mpirun (or srun --mpi=pmix) started. No mpi.h here.
//
// Life of the process. MPI starts once per process, so one process lives with one replica. MakeMpiFabric
// calls MPI_Init_thread(FUNNELED): the thread that calls it must be the executor, the only one to use the
// fabric. The last of fabric, collectives and links to be destroyed calls MPI_Finalize, when all is well and
// all ranks have come to the same point. After a failure or an abort MPI is left alone (finalising would wait
// for peers that are gone): the process must end by _exit. Tensors given to the operation that failed must
// stay allocated until then, since MPI may still read or write them.
//
// If the caller has initialised MPI itself (tests), fabrics can be made one after another and MPI_Finalize is
// the caller's.
#pragma once

#include <memory>
#include <string>

#include "worker/comm/collective.h"

namespace fulger {

// Called by all ranks of MPI_COMM_WORLD.
absl::StatusOr<std::unique_ptr<Fabric>> MakeMpiFabric(const FabricOptions& options);

// "Open MPI v4.1.4": of the library that this process has loaded. Before MPI starts too.
std::string MpiVersion();

}  // namespace fulger
