// AVX2. Products of 16 bits summed in pairs: a weight is split into w = high * 2^16 + low, both signed 16
// bits. The sums stay below 2^31, and putting them together wraps as adding up 32-bit products would.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <array>

#include "coordinator/image/resize_passes.h"

#define FULGER_AVX2 [[gnu::target("avx2")]]

namespace fulger {
namespace {

// The low parts of weights 0 and 1, their high parts, the low parts of 2 and 3, their high parts; two in each
// number, as pmaddwd wants them.
void Pack(const int32_t* weights, int32_t* packed) {
  for (int pair = 0; pair < 2; ++pair) {
    uint32_t low = 0, high = 0;
    for (int j = 0; j < 2; ++j) {
      const int32_t w = weights[2 * pair + j];
      const auto low_part = static_cast<int16_t>(w);
      low |= static_cast<uint32_t>(static_cast<uint16_t>(low_part)) << (16 * j);
      high |= (static_cast<uint32_t>((w - low_part) >> 16) & 0xFFFFU) << (16 * j);
    }
    packed[2 * pair] = static_cast<int32_t>(low);
    packed[2 * pair + 1] = static_cast<int32_t>(high);
  }
}

// Sums to bytes in the low byte of each 32-bit lane, clamped.
FULGER_AVX2 inline __m256i Round(__m256i low, __m256i high) {
  __m256i sum = _mm256_add_epi32(_mm256_slli_epi32(high, 16), low);
  sum = _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(kResizeHalf)), kResizePrecision);
  return _mm256_min_epi32(_mm256_max_epi32(sum, _mm256_setzero_si256()), _mm256_set1_epi32(255));
}

// One register: two rows, a row's four lanes being R, G, B and nothing.
FULGER_AVX2 void Horizontal(const uint8_t* const* in, const ResizeTaps& taps, uint8_t* const* out) {
  // Four pixels to 16-bit pairs (first, second) and (third, fourth) of each channel.
  const __m256i front =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
  const __m256i back =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
  const __m256i gather =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1));
  for (size_t x = 0; x < taps.first.size(); ++x) {
    const int32_t* packed = taps.of(x);
    const ptrdiff_t begin = static_cast<ptrdiff_t>(taps.first[x]) * 3;
    __m256i low[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    __m256i high[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
    for (int j = 0; j < taps.count; j += 4, packed += 4) {
      const __m256i a_low = _mm256_set1_epi32(packed[0]), a_high = _mm256_set1_epi32(packed[1]);
      const __m256i b_low = _mm256_set1_epi32(packed[2]), b_high = _mm256_set1_epi32(packed[3]);
      for (size_t r = 0; r < 2; ++r) {
        const __m256i pixels = _mm256_inserti128_si256(
            _mm256_castsi128_si256(
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[2 * r] + begin + 3 * j))),
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(in[2 * r + 1] + begin + 3 * j)), 1);
        const __m256i p = _mm256_shuffle_epi8(pixels, front);
        const __m256i q = _mm256_shuffle_epi8(pixels, back);
        low[r] = _mm256_add_epi32(low[r],
                                  _mm256_add_epi32(_mm256_madd_epi16(p, a_low), _mm256_madd_epi16(q, b_low)));
        high[r] = _mm256_add_epi32(
            high[r], _mm256_add_epi32(_mm256_madd_epi16(p, a_high), _mm256_madd_epi16(q, b_high)));
      }
    }
    for (size_t r = 0; r < 2; ++r) {
      const __m256i bytes = _mm256_shuffle_epi8(Round(low[r], high[r]), gather);
      _mm_storeu_si32(out[2 * r] + 3 * x, _mm256_castsi256_si128(bytes));
      _mm_storeu_si32(out[2 * r + 1] + 3 * x, _mm256_extracti128_si256(bytes, 1));
    }
  }
}

FULGER_AVX2 void VerticalChunk(const uint8_t* const* in, const int32_t* packed, int count, size_t x,
                               uint8_t* out) {
  // Lanes in the order that the unpacking gives and the packing at the end takes back.
  __m256i low[4], high[4];
  for (size_t i = 0; i < 4; ++i) low[i] = high[i] = _mm256_setzero_si256();
  const __m256i zero = _mm256_setzero_si256();
  for (int j = 0; j < count; j += 2) {
    const __m256i w_low = _mm256_set1_epi32(packed[j]), w_high = _mm256_set1_epi32(packed[j + 1]);
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in[j] + x));
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in[j + 1] + x));
    const __m256i ab[2] = {_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)};
    for (size_t i = 0; i < 4; ++i) {
      const __m256i pairs =
          i % 2 == 0 ? _mm256_unpacklo_epi8(ab[i / 2], zero) : _mm256_unpackhi_epi8(ab[i / 2], zero);
      low[i] = _mm256_add_epi32(low[i], _mm256_madd_epi16(pairs, w_low));
      high[i] = _mm256_add_epi32(high[i], _mm256_madd_epi16(pairs, w_high));
    }
  }
  const __m256i front = _mm256_packus_epi32(Round(low[0], high[0]), Round(low[1], high[1]));
  const __m256i back = _mm256_packus_epi32(Round(low[2], high[2]), Round(low[3], high[3]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + x), _mm256_packus_epi16(front, back));
}

// Rows shorter than a register, through a copy.
FULGER_AVX2 void VerticalNarrow(const uint8_t* const* in, const int32_t* packed, int count, size_t bytes,
                                uint8_t* out) {
  std::vector<uint8_t> copies(static_cast<size_t>(count) * 32);
  std::vector<const uint8_t*> rows;
  for (int j = 0; j < count; ++j) {
    rows.push_back(std::copy_n(in[j], bytes, copies.data() + static_cast<size_t>(j) * 32) - bytes);
  }
  std::array<uint8_t, 32> wide;
  VerticalChunk(rows.data(), packed, count, 0, wide.data());
  std::copy_n(wide.data(), bytes, out);
}

void Vertical(const uint8_t* const* in, const int32_t* packed, int count, size_t bytes, uint8_t* out) {
  constexpr size_t kChunk = 32;
  if (bytes < kChunk) return VerticalNarrow(in, packed, count, bytes, out);
  for (size_t x = 0; x + kChunk <= bytes; x += kChunk) VerticalChunk(in, packed, count, x, out);
  if (bytes % kChunk != 0) VerticalChunk(in, packed, count, bytes - kChunk, out);  // once more, shifted
}

}  // namespace

ResizePasses Avx2ResizePasses() {
  return {.packed_ints = 4, .pack = Pack, .horizontal = Horizontal, .vertical = Vertical};
}

}  // namespace fulger
#endif
