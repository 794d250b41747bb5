// Internal to coordinator/image: the two passes of a resize, one set for each kind of processor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fulger {

constexpr int kResizePrecision = 22;  // 32 bits less 8 of a pixel, less 2 of headroom for negative lobes
constexpr int32_t kResizeHalf = 1 << (kResizePrecision - 1);

// How one side of a picture becomes another. Output position i is the sum over j < count of
// weight(i, j) * input[first[i] + j], weights in units of 2^-22. All positions have the same count, a
// multiple of 4; where a position needs fewer the weights are zero, and first[i] + count may lie past the
// input's end. The weights are kept in fours, as the passes packed them.
struct ResizeTaps {
  int count = 0;
  std::vector<int> first;
  size_t stride = 0;  // of a position
  std::vector<int32_t> packed;

  const int32_t* of(size_t i) const { return packed.data() + i * stride; }
};

constexpr int kResizeRows = 4;  // that a horizontal pass works on together

struct ResizePasses {
  int packed_ints;  // that four weights become
  void (*pack)(const int32_t* weights, int32_t* packed);
  // kResizeRows rows of pixels of 3 bytes. May read kResizeSlack bytes past the last pixel that `taps` name
  // and write as many past the last of a row of `out`.
  void (*horizontal)(const uint8_t* const* in, const ResizeTaps& taps, uint8_t* const* out);
  // One row of `bytes` bytes from `count` rows.
  void (*vertical)(const uint8_t* const* in, const int32_t* packed, int count, size_t bytes, uint8_t* out);
};
constexpr size_t kResizeSlack = 16;

ResizePasses PortableResizePasses();
#if defined(__x86_64__)
ResizePasses Avx2ResizePasses();
ResizePasses Avx512ResizePasses();
#endif

}  // namespace fulger
