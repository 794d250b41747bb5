#include "worker/comm/fabric_factory.h"

#include "worker/comm/launcher.h"
#ifdef FULGER_HAVE_MPI
#include "worker/comm/mpi_fabric.h"
#endif

namespace fulger {
namespace {

absl::StatusOr<std::unique_ptr<Fabric>> MakeMpi(const FabricOptions& options) {
#ifdef FULGER_HAVE_MPI
  ASSIGN_OR_RETURN(const Launcher launcher, ProbeLauncher());
  if (launcher.name == "none") return FailedPrecondition("transport mpi: {}", kStartMpiRanks);
  return MakeMpiFabric(options);
#else
  static_cast<void>(options);
  return FailedPrecondition("transport mpi: this build has no MPI; configure with -DFULGER_MPI=ON");
#endif
}

absl::StatusOr<std::unique_ptr<Fabric>> MakeNccl(const NcclSetup& setup, const FabricOptions& options) {
  if (setup.rendezvous == nullptr) {
    return FailedPrecondition("transport nccl: it joins GPU ranks; {}", kStartMpiRanks);
  }
#ifdef FULGER_HAVE_NCCL
  return MakeNcclFabric(setup, options);
#else
  static_cast<void>(options);
  return FailedPrecondition("transport nccl: this build has no CUDA or found no nccl.h");
#endif
}

}  // namespace

absl::StatusOr<std::unique_ptr<Fabric>> MakeFabric(std::string_view transport, const FabricOptions& options,
                                                   const NcclSetup& nccl) {
  if (transport == "single") return MakeSingleFabric();
  if (transport == "mpi") return MakeMpi(options);
  if (transport == "thread") {
    return FailedPrecondition(
        "transport thread: it joins the ranks of one process and is made by a ThreadWorld, not by each rank");
  }
  if (transport == "nccl") return MakeNccl(nccl, options);
  return InvalidArgument("transport: expected single, mpi, thread or nccl, found \"{}\"", transport);
}

std::string MpiLibraryVersion() {
#ifdef FULGER_HAVE_MPI
  return MpiVersion();
#else
  return {};
#endif
}

}  // namespace fulger
