// How fast one rank's messages reach another, over the fabric that the replica would use.
#pragma once

#include "base/status.h"
#include "fulger/v1/doctor.pb.h"
#include "kernels/device/device.h"
#include "worker/comm/collective.h"

namespace fulger {

// Called by both ranks of a pair with the same `round` (names the links) and `seconds` (about, for all of
// it). Each gets the rate from itself to its partner; the latency is known to the smaller rank, and 0 to the
// other one.
absl::StatusOr<v1::PairFacts> MeasurePair(Fabric& fabric, Device& device, const v1::Measure& measure);

}  // namespace fulger
