// How ranks exchange tensors. A Fabric is one rank's view of all ranks of the replica; from it come
// Collectives (an ordered set of ranks) and Links (a directed pair). Implementations: single, thread (ranks
// in one process), mpi, nccl.
//
// Contract: ordered after earlier work on the stream, visible to later work on it. Every rank of a group
// makes the same calls in the same order. Only the rank's executor thread uses any of this, except
// Fabric::Abort, which any thread may call. All ranks of a group get the same bits out of AllReduceSum: the
// router decides from them. Failure: a peer that is gone, an abort or a passed deadline gives UNAVAILABLE /
// ABORTED / DEADLINE_EXCEEDED naming the operation, the group and the peer; afterwards the fabric is unusable
// (every later call fails with the first failure) and the replica is rebuilt. The sum is taken in rank order,
// ((x0 + x1) + x2) + ..., by the single, thread and mpi fabrics alike, so they agree in every bit.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>

#include "base/status.h"
#include "kernels/device/device.h"
#include "kernels/tensor/tensor_view.h"

namespace fulger {

class Collective {
 public:
  virtual ~Collective() = default;
  virtual int rank() const = 0;  // index within the group
  virtual int size() const = 0;
  virtual const std::string& name() const = 0;

  // data f32, contiguous, any number of elements (0 too), summed in place over the group.
  virtual absl::Status AllReduceSum(Stream& stream, const MutTensorView& data) = 0;
  // out = concatenation over ranks of `in` (same bytes on every rank); both contiguous, any dtype.
  virtual absl::Status AllGather(Stream& stream, const TensorView& in, const MutTensorView& out) = 0;
  virtual absl::Status Broadcast(Stream& stream, const MutTensorView& data, int root) = 0;
  virtual absl::Status Barrier(Stream& stream) = 0;
};

// Messages arrive in the order sent. Exactly one side sends. Sizes are known to both sides; another size is
// INTERNAL.
class Link {
 public:
  virtual ~Link() = default;
  // Returns without waiting for the receiver; `data` may be reused at once (stream order). Contiguous, any
  // dtype.
  virtual absl::Status Send(Stream& stream, const TensorView& data) = 0;
  // Waits for the next message.
  virtual absl::Status Recv(Stream& stream, const MutTensorView& data) = 0;
  // True when a message waits; never blocks.
  virtual absl::StatusOr<bool> Ready() = 0;
};

class Fabric {
 public:
  virtual ~Fabric() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string name() const = 0;  // "single", "thread", "mpi", "nccl"

  // Called by every member of `ranks` (ascending), and by nobody else, with the same name. Names are unique.
  // Collectives and Links hold what they need of the fabric: they may be destroyed before or after it.
  virtual absl::StatusOr<std::unique_ptr<Collective>> Group(std::span<const int> ranks,
                                                            const std::string& name) = 0;
  // Called by both ends with the same name. from == to is legal (a queue to oneself).
  virtual absl::StatusOr<std::unique_ptr<Link>> Connect(int from, int to, const std::string& name) = 0;
  // Wakes everybody who waits in an operation on this rank (thread fabric: on all ranks) with ABORTED and
  // `why`.
  virtual void Abort(const absl::Status& why) = 0;
  // Moves sends in flight along without waiting; true when none is left. A large send over MPI advances only
  // inside calls made by its own rank, so an executor calls this before it goes to wait for its next step,
  // and goes on calling it (every millisecond is enough) while it returns false.
  virtual absl::StatusOr<bool> Progress() { return true; }
};

struct FabricOptions {
  std::chrono::milliseconds deadline{60000};  // per operation
};

std::unique_ptr<Fabric> MakeSingleFabric();

}  // namespace fulger
