// Ranks that exchange GPU memory over NCCL. Tensors may also lie in host memory: they then pass through this
// rank's GPU and the call returns when they are there.
//
// What differs from the other fabrics: sums are in NCCL's order (the same bits on all ranks of a group, not
// those of rank order); a missing rank cannot be told from the others of its group (the coordinator names
// it); a link cannot see whether a message waits (Ready is UNIMPLEMENTED), nor that sizes differ (both ends
// reach their deadline). A failure of what is already on the stream shows at the stream's next Synchronize
// and in every later call.
#pragma once

#include <memory>
#include <string>

#include "worker/comm/collective.h"
#include "worker/comm/rendezvous.h"

namespace fulger {

struct NcclSetup {
  int rank = 0;
  int size = 1;
  int gpu = 0;                       // CUDA ordinal
  int ranks_per_gpu = 1;             // more than one: NCCL 2.30 or newer
  Rendezvous* rendezvous = nullptr;  // outlives the fabric and what it makes
  std::string library;               // --nccl-library; empty: the machine's
};

// FAILED_PRECONDITION without the library, UNAVAILABLE without a GPU. A link has a stream and a communicator
// of its own, so sends never wait for receivers.
absl::StatusOr<std::unique_ptr<Fabric>> MakeNcclFabric(const NcclSetup& setup, const FabricOptions& options);

}  // namespace fulger
