// How the ranks that share a matrix by columns agree on the scales of its rows (see LoadOptions).
#pragma once

#include <functional>
#include <span>

#include "base/status.h"
#include "kernels/device/device.h"
#include "model/layout.h"
#include "worker/comm/collective.h"

namespace fulger {

using RowMaximum = std::function<absl::Status(const TensorSpec& matrix, std::span<float>)>;

// For LoadOptions::reduce_row_maxima of `rank`: null where no row of an int8 matrix is cut. Collective over
// the ranks of its stage and of its expert group, and so is every call of the result, over those that share
// the matrix. Fabric and device must outlive it.
absl::StatusOr<RowMaximum> MakeRowMaximum(const Plan& plan, int rank, Fabric& fabric, Device& device);

}  // namespace fulger
