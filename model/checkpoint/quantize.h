// Eight-bit rows: integer q stands for scale * q, scale = largest magnitude of the uncut row / 127.
// What a rank holds after loading int8 experts, and what `fulger shard` writes.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace fulger {

// Largest magnitude among n elements (F32, BF16 or F16); infinite or NaN when one of them is.
float LargestMagnitude(const std::byte* row, DType stored, int64_t n);

// The scale of a row with this largest magnitude (finite).
inline float Int8Scale(float largest) { return largest / 127.0F; }

// out = round(row / scale), ties to even; zeros for scale 0. No element may exceed 127 scales.
void ToInt8(const std::byte* row, DType stored, int64_t n, float scale, int8_t* out);

}  // namespace fulger
