// How the ranks that share an expert's matrix agree on the scales of its rows (see LoadOptions).
#pragma once

#include <functional>
#include <span>

#include "base/status.h"
#include "kernels/device/device.h"
#include "model/layout.h"
#include "worker/comm/collective.h"

namespace fulger {

// For LoadOptions::reduce_row_maxima of `rank`: null where no row is cut. Collective over the ranks of its
// expert group, and so is every call of the result. Fabric and device must outlive it.
absl::StatusOr<std::function<absl::Status(std::span<float>)>> MakeRowMaximum(const Plan& plan, int rank,
                                                                             Fabric& fabric, Device& device);

}  // namespace fulger
