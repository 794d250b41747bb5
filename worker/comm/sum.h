// The one summation of the CPU fabrics: rank order, so that the bits never depend on the transport.
#pragma once

#include <cstddef>
#include <span>

namespace fulger {

// every outputs[k][i] = ((inputs[0][i] + inputs[1][i]) + inputs[2][i]) + ..., i in [0, count). At least one
// input. An output may be one of the inputs (the same pointer); otherwise they must not overlap.
void SumInRankOrder(std::span<const float* const> inputs, std::span<float* const> outputs, size_t count);

}  // namespace fulger
