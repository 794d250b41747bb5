// Built with -O3: the vertical loop vectorises.
#include <algorithm>

#include "coordinator/image/resize_passes.h"

namespace fulger {
namespace {

uint8_t Clamp(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kResizePrecision, int32_t{0}, int32_t{255}));
}

void Pack(const int32_t* weights, int32_t* packed) { std::copy_n(weights, 4, packed); }

void Horizontal(const uint8_t* const* in, const ResizeTaps& taps, uint8_t* const* out) {
  for (int r = 0; r < kResizeRows; ++r) {
    uint8_t* to = out[r];
    for (size_t x = 0; x < taps.first.size(); ++x) {
      const int32_t* weights = taps.of(x);
      const uint8_t* from = in[r] + static_cast<ptrdiff_t>(taps.first[x]) * 3;
      int32_t sum[3] = {kResizeHalf, kResizeHalf, kResizeHalf};
      for (int j = 0; j < taps.count; ++j, from += 3) {
        if (weights[j] == 0) continue;  // perhaps past the end
        for (int c = 0; c < 3; ++c) sum[c] += weights[j] * from[c];
      }
      for (const int32_t s : sum) *to++ = Clamp(s);
    }
  }
}

void Vertical(const uint8_t* const* in, const int32_t* weights, int count, size_t bytes, uint8_t* out) {
  constexpr size_t kChunk = 32;  // accumulators that stay in registers
  size_t x = 0;
  for (; x + kChunk <= bytes; x += kChunk) {
    int32_t sum[kChunk];
    for (int32_t& s : sum) s = kResizeHalf;
    for (int j = 0; j < count; ++j) {
      for (size_t i = 0; i < kChunk; ++i) sum[i] += weights[j] * in[j][x + i];
    }
    for (size_t i = 0; i < kChunk; ++i) out[x + i] = Clamp(sum[i]);
  }
  for (; x < bytes; ++x) {
    int32_t sum = kResizeHalf;
    for (int j = 0; j < count; ++j) sum += weights[j] * in[j][x];
    out[x] = Clamp(sum);
  }
}

}  // namespace

ResizePasses PortableResizePasses() {
  return {.packed_ints = 4, .pack = Pack, .horizontal = Horizontal, .vertical = Vertical};
}

}  // namespace fulger
