#include "model/checkpoint/quantize.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/bfloat16.h"
#include "base/check.h"

namespace fulger {
namespace {

constexpr int64_t kChunk = 1024;

// Elements as floats, a chunk at a time: simple loops that the compiler makes vectors of.
const float* AsFloats(const std::byte* from, DType stored, int64_t n, std::array<float, kChunk>& buffer) {
  const auto count = static_cast<size_t>(n);
  switch (stored) {
    case DType::kF32:
      std::memcpy(buffer.data(), from, count * sizeof(float));
      break;
    case DType::kBF16: {
      std::array<uint16_t, kChunk> bits;
      std::memcpy(bits.data(), from, count * sizeof(uint16_t));
      std::array<uint32_t, kChunk> wide;
      for (size_t i = 0; i < count; ++i) wide[i] = static_cast<uint32_t>(bits[i]) << 16;
      std::memcpy(buffer.data(), wide.data(), count * sizeof(float));
      break;
    }
    case DType::kF16:
      for (size_t i = 0; i < count; ++i) {
        uint16_t bits;
        std::memcpy(&bits, from + 2 * i, sizeof(bits));
        buffer[i] = F16ToFloat(bits);
      }
      break;
    default:
      FULGER_CHECK(false, "{} to eight bits", Name(stored));
  }
  return buffer.data();
}

template <typename F>
void ForChunks(const std::byte* row, DType stored, int64_t n, F&& fn) {
  std::array<float, kChunk> buffer;
  for (int64_t at = 0; at < n; at += kChunk) {
    const int64_t count = std::min(kChunk, n - at);
    fn(AsFloats(row + at * static_cast<int64_t>(ByteSize(stored)), stored, count, buffer), at, count);
  }
}

}  // namespace

float LargestMagnitude(const std::byte* row, DType stored, int64_t n) {
  // As integers: magnitudes order alike, infinity and NaN come last, and maxima need no order of evaluation.
  int32_t largest = 0;
  ForChunks(row, stored, n, [&](const float* x, int64_t, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      int32_t bits;
      std::memcpy(&bits, x + i, sizeof(bits));
      bits &= 0x7fffffff;
      largest = bits > largest ? bits : largest;
    }
  });
  float value;
  std::memcpy(&value, &largest, sizeof(value));
  return value;
}

void ToInt8(const std::byte* row, DType stored, int64_t n, float scale, int8_t* out) {
  if (scale == 0.0F) {
    std::fill_n(out, n, int8_t{0});
    return;
  }
  ForChunks(row, stored, n, [&](const float* x, int64_t at, int64_t count) {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
    constexpr float kMagic = 12582912.0F;
    for (int64_t i = 0; i < count; ++i) {
      const float shifted = x[i] / scale + kMagic;
      int32_t bits;
      std::memcpy(&bits, &shifted, sizeof(bits));
      out[at + i] = static_cast<int8_t>(bits - 0x4b400000);
    }
  });
}

}  // namespace fulger
