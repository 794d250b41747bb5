// What every fabric must do, as one set of test bodies. A test program gives the harness (RunRanks) and
// instantiates CommSuite with the numbers of ranks it wants; the bodies are in comm_suite_test.cc.
#pragma once

#include <gtest/gtest.h>

#include <functional>

#include "kernels/device/device.h"
#include "worker/comm/collective.h"

namespace fulger {

// Host memory: everything is done when it is enqueued.
class HostStream final : public Stream {
 public:
  absl::Status Synchronize() override { return absl::OkStatus(); }
};

// What a fabric promises beyond the contract that all keep.
struct FabricTraits {
  bool sums_in_rank_order = true;
  bool sees_waiting_messages = true;  // Link::Ready, and a message of another size is told by name
  bool names_the_missing_rank = true;
};
// Defined by the test program.
FabricTraits Traits();

using RankBody = std::function<void(Fabric& fabric, Stream& stream)>;

// Runs `body` once on each of `ranks` ranks (in this process or one rank per process) with a fresh fabric,
// and returns when those in this process are done. Defined by the test program.
void RunRanks(int ranks, const FabricOptions& options, const RankBody& body);

// The parameter is handed to RunRanks; bodies ask the fabric for the size.
class CommSuite : public testing::TestWithParam<int> {
 protected:
  // Long enough for a loaded machine: only a bug reaches it.
  static constexpr FabricOptions kPatient{.deadline = std::chrono::milliseconds(30000)};
  // For a failure that one rank reports at once while the others only wait for the end.
  static constexpr FabricOptions kBrief{.deadline = std::chrono::milliseconds(2000)};
  // For deadlines that are to pass.
  static constexpr FabricOptions kHasty{.deadline = std::chrono::milliseconds(150)};
  void Run(const FabricOptions& options, const RankBody& body) { RunRanks(GetParam(), options, body); }
};

}  // namespace fulger
