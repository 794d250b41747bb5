// AVX-512 with VNNI. Products of bytes summed in fours: a weight is split into
// w = high * 2^16 + middle * 2^8 + low, all signed bytes. Putting the three sums together wraps as adding up
// 32-bit products would.
#if defined(__x86_64__)
#include <immintrin.h>

#include <array>

#include "coordinator/image/resize_passes.h"

#define FULGER_AVX512 [[gnu::target("avx512f,avx512bw,avx512vl,avx512vnni")]]

namespace fulger {
namespace {

// The low, middle and high bytes of four weights.
void Pack(const int32_t* weights, int32_t* packed) {
  std::array<uint32_t, 3> parts{};
  for (int j = 0; j < 4; ++j) {
    int32_t rest = weights[j];
    for (uint32_t& part : parts) {
      const auto digit = static_cast<int8_t>(rest);
      part |= static_cast<uint32_t>(static_cast<uint8_t>(digit)) << (8 * j);
      rest = (rest - digit) >> 8;
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) packed[i] = static_cast<int32_t>(parts[i]);
}

struct Sums {
  __m512i low, middle, high;
};

FULGER_AVX512 inline Sums NoSums() {
  return {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
}

FULGER_AVX512 inline void Add(Sums& sums, __m512i pixels, __m512i low, __m512i middle, __m512i high) {
  sums.low = _mm512_dpbusd_epi32(sums.low, pixels, low);
  sums.middle = _mm512_dpbusd_epi32(sums.middle, pixels, middle);
  sums.high = _mm512_dpbusd_epi32(sums.high, pixels, high);
}

// As 32-bit numbers, not yet clamped.
FULGER_AVX512 inline __m512i Round(const Sums& sums) {
  __m512i sum = _mm512_add_epi32(_mm512_slli_epi32(sums.high, 16), _mm512_slli_epi32(sums.middle, 8));
  sum = _mm512_add_epi32(sum, _mm512_add_epi32(sums.low, _mm512_set1_epi32(kResizeHalf)));
  return _mm512_srai_epi32(sum, kResizePrecision);
}

FULGER_AVX512 inline __m128i Load(const uint8_t* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}

// One register: four rows, a row's four lanes being R, G, B and nothing.
FULGER_AVX512 void Horizontal(const uint8_t* const* in, const ResizeTaps& taps, uint8_t* const* out) {
  const __m512i by_channel =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
  for (size_t x = 0; x < taps.first.size(); ++x) {
    const int32_t* packed = taps.of(x);
    const ptrdiff_t begin = static_cast<ptrdiff_t>(taps.first[x]) * 3;
    Sums sums = NoSums();
    for (int j = 0; j < taps.count; j += 4, packed += 3) {
      const ptrdiff_t at = begin + 3 * static_cast<ptrdiff_t>(j);
      __m512i pixels = _mm512_castsi128_si512(Load(in[0] + at));
      pixels = _mm512_inserti32x4(pixels, Load(in[1] + at), 1);
      pixels = _mm512_inserti32x4(pixels, Load(in[2] + at), 2);
      pixels = _mm512_inserti32x4(pixels, Load(in[3] + at), 3);
      Add(sums, _mm512_shuffle_epi8(pixels, by_channel), _mm512_set1_epi32(packed[0]),
          _mm512_set1_epi32(packed[1]), _mm512_set1_epi32(packed[2]));
    }
    const __m512i rounded = _mm512_max_epi32(Round(sums), _mm512_setzero_si512());
    const __m128i bytes = _mm512_cvtusepi32_epi8(rounded);
    _mm_storeu_si32(out[0] + 3 * x, bytes);
    _mm_storeu_si32(out[1] + 3 * x, _mm_srli_si128(bytes, 4));
    _mm_storeu_si32(out[2] + 3 * x, _mm_srli_si128(bytes, 8));
    _mm_storeu_si32(out[3] + 3 * x, _mm_srli_si128(bytes, 12));
  }
}

FULGER_AVX512 void Vertical(const uint8_t* const* in, const int32_t* packed, int count, size_t bytes,
                            uint8_t* out) {
  constexpr size_t kChunk = 64;
  for (size_t x = 0; x < bytes; x += kChunk) {
    const __mmask64 mask = bytes - x >= kChunk ? ~__mmask64{0} : (__mmask64{1} << (bytes - x)) - 1;
    Sums sums[4] = {NoSums(), NoSums(), NoSums(), NoSums()};
    const int32_t* w = packed;
    for (int j = 0; j < count; j += 4, w += 3) {
      const __m512i low = _mm512_set1_epi32(w[0]), middle = _mm512_set1_epi32(w[1]);
      const __m512i high = _mm512_set1_epi32(w[2]);
      const __m512i a = _mm512_maskz_loadu_epi8(mask, in[j] + x);
      const __m512i b = _mm512_maskz_loadu_epi8(mask, in[j + 1] + x);
      const __m512i c = _mm512_maskz_loadu_epi8(mask, in[j + 2] + x);
      const __m512i d = _mm512_maskz_loadu_epi8(mask, in[j + 3] + x);
      const __m512i ab_front = _mm512_unpacklo_epi8(a, b), ab_back = _mm512_unpackhi_epi8(a, b);
      const __m512i cd_front = _mm512_unpacklo_epi8(c, d), cd_back = _mm512_unpackhi_epi8(c, d);
      Add(sums[0], _mm512_unpacklo_epi16(ab_front, cd_front), low, middle, high);
      Add(sums[1], _mm512_unpackhi_epi16(ab_front, cd_front), low, middle, high);
      Add(sums[2], _mm512_unpacklo_epi16(ab_back, cd_back), low, middle, high);
      Add(sums[3], _mm512_unpackhi_epi16(ab_back, cd_back), low, middle, high);
    }
    // Packing undoes the order that unpacking made.
    const __m512i front = _mm512_packs_epi32(Round(sums[0]), Round(sums[1]));
    const __m512i back = _mm512_packs_epi32(Round(sums[2]), Round(sums[3]));
    _mm512_mask_storeu_epi8(out + x, mask, _mm512_packus_epi16(front, back));
  }
}

}  // namespace

ResizePasses Avx512ResizePasses() {
  return {.packed_ints = 3, .pack = Pack, .horizontal = Horizontal, .vertical = Vertical};
}

}  // namespace fulger
#endif
