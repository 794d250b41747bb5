// Built with -O3 (the loops vectorise) and -ffp-contract=off (the weights are Pillow's to the last bit).
#include "coordinator/image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"

namespace fulger {
namespace {

constexpr int kPrecisionBits = 22;  // 32 bits less 8 of a pixel, less 2 of headroom for negative lobes
constexpr int32_t kHalf = 1 << (kPrecisionBits - 1);
constexpr int kLanes = 16;  // rows that the horizontal pass works on together

double Bicubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * kA;
  return 0.0;
}

// Output position i is the sum over j of weights[i * stride + j] * input[first[i] + j], j < count[i].
struct Taps {
  std::vector<int> first;
  std::vector<int> count;
  std::vector<int32_t> weights;
  size_t stride = 0;

  const int32_t* of(int i) const { return weights.data() + static_cast<size_t>(i) * stride; }
};

Taps MakeTaps(int in, int out) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Taps taps;
  taps.stride = static_cast<size_t>(std::ceil(support)) * 2 + 1;
  taps.first.resize(out);
  taps.count.resize(out);
  taps.weights.resize(taps.stride * static_cast<size_t>(out));
  std::vector<double> exact(taps.stride);
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const int lo = std::max(0, static_cast<int>(center - support + 0.5));
    const int hi = std::min(in, static_cast<int>(center + support + 0.5));
    double sum = 0.0;
    for (int j = 0; j < hi - lo; ++j) {
      exact[j] = Bicubic((j + lo - center + 0.5) * inverse);
      sum += exact[j];
    }
    int32_t* weights = taps.weights.data() + static_cast<size_t>(i) * taps.stride;
    for (int j = 0; j < hi - lo; ++j) {
      const double w = sum != 0.0 ? exact[j] / sum : exact[j];
      weights[j] = static_cast<int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kPrecisionBits));
    }
    taps.first[i] = lo;
    taps.count[i] = hi - lo;
  }
  return taps;
}

inline uint8_t Clamp(int32_t sum) {
  return static_cast<uint8_t>(std::clamp(sum >> kPrecisionBits, int32_t{0}, int32_t{255}));
}

// The bodies below are compiled twice, for the baseline and for AVX2, and chosen at run time: 32-bit products
// of vectors do not exist in baseline x86-64.
//
// `lanes` holds kLanes rows side by side, [width * 3][kLanes]: a weight then meets kLanes rows at once.
[[gnu::always_inline]] inline void HorizontalBody(const uint8_t* lanes, const Taps& taps, int out_width,
                                                  uint8_t* out) {
  for (int x = 0; x < out_width; ++x) {
    const int32_t* weights = taps.of(x);
    for (int c = 0; c < RgbImage::kChannels; ++c) {
      int32_t sum[kLanes];
      for (int l = 0; l < kLanes; ++l) sum[l] = kHalf;
      const uint8_t* in = lanes + (static_cast<size_t>(taps.first[x]) * RgbImage::kChannels + c) * kLanes;
      for (int j = 0; j < taps.count[x]; ++j) {
        const int32_t w = weights[j];
        for (int l = 0; l < kLanes; ++l) sum[l] += w * in[l];
        in += RgbImage::kChannels * kLanes;
      }
      uint8_t* to = out + (static_cast<size_t>(x) * RgbImage::kChannels + c) * kLanes;
      for (int l = 0; l < kLanes; ++l) to[l] = Clamp(sum[l]);
    }
  }
}

// One output row from `count` input rows of `bytes` bytes each.
[[gnu::always_inline]] inline void VerticalBody(const uint8_t* rows, size_t bytes, const int32_t* weights,
                                                int count, uint8_t* out) {
  constexpr size_t kChunk = 32;  // accumulators that stay in registers
  size_t x = 0;
  for (; x + kChunk <= bytes; x += kChunk) {
    int32_t sum[kChunk];
    for (size_t i = 0; i < kChunk; ++i) sum[i] = kHalf;
    const uint8_t* in = rows + x;
    for (int j = 0; j < count; ++j, in += bytes) {
      const int32_t w = weights[j];
      for (size_t i = 0; i < kChunk; ++i) sum[i] += w * in[i];
    }
    for (size_t i = 0; i < kChunk; ++i) out[x + i] = Clamp(sum[i]);
  }
  for (; x < bytes; ++x) {
    int32_t sum = kHalf;
    for (int j = 0; j < count; ++j) sum += weights[j] * rows[static_cast<size_t>(j) * bytes + x];
    out[x] = Clamp(sum);
  }
}

void HorizontalPlain(const uint8_t* lanes, const Taps& taps, int out_width, uint8_t* out) {
  HorizontalBody(lanes, taps, out_width, out);
}
void VerticalPlain(const uint8_t* rows, size_t bytes, const int32_t* weights, int count, uint8_t* out) {
  VerticalBody(rows, bytes, weights, count, out);
}

struct Passes {
  decltype(&HorizontalPlain) horizontal = HorizontalPlain;
  decltype(&VerticalPlain) vertical = VerticalPlain;
};

#if defined(__x86_64__)
[[gnu::target("avx2")]] void HorizontalAvx2(const uint8_t* lanes, const Taps& taps, int out_width,
                                            uint8_t* out) {
  HorizontalBody(lanes, taps, out_width, out);
}
[[gnu::target("avx2")]] void VerticalAvx2(const uint8_t* rows, size_t bytes, const int32_t* weights,
                                          int count, uint8_t* out) {
  VerticalBody(rows, bytes, weights, count, out);
}
Passes ChoosePasses() {
  if (__builtin_cpu_supports("avx2")) return {.horizontal = HorizontalAvx2, .vertical = VerticalAvx2};
  return {};
}
#else
Passes ChoosePasses() { return {}; }
#endif

RgbImage ResizeHorizontally(const RgbImage& image, int out_width, const Passes& passes) {
  const Taps taps = MakeTaps(image.size.width, out_width);
  RgbImage out({.height = image.size.height, .width = out_width});
  const size_t in_bytes = RgbImage::RowBytes(image.size);
  const size_t out_bytes = RgbImage::RowBytes(out.size);
  std::vector<uint8_t> in_lanes(in_bytes * kLanes);
  std::vector<uint8_t> out_lanes(out_bytes * kLanes);
  for (int y = 0; y < image.size.height; y += kLanes) {
    const int rows = std::min(kLanes, image.size.height - y);
    for (int l = 0; l < rows; ++l) {
      const uint8_t* from = image.Row(y + l).data();
      for (size_t i = 0; i < in_bytes; ++i) in_lanes[i * kLanes + l] = from[i];
    }
    passes.horizontal(in_lanes.data(), taps, out_width, out_lanes.data());
    for (int l = 0; l < rows; ++l) {
      uint8_t* to = out.Row(y + l).data();
      for (size_t i = 0; i < out_bytes; ++i) to[i] = out_lanes[i * kLanes + l];
    }
  }
  return out;
}

RgbImage ResizeVertically(const RgbImage& image, int out_height, const Passes& passes) {
  const Taps taps = MakeTaps(image.size.height, out_height);
  RgbImage out({.height = out_height, .width = image.size.width});
  const size_t bytes = RgbImage::RowBytes(image.size);
  for (int y = 0; y < out_height; ++y) {
    passes.vertical(image.Row(taps.first[y]).data(), bytes, taps.of(y), taps.count[y], out.Row(y).data());
  }
  return out;
}

}  // namespace

RgbImage ResizeBicubic(const RgbImage& image, ImageSize size, ResizeCode code) {
  FULGER_CHECK(image.size.height > 0 && image.size.width > 0 && size.height > 0 && size.width > 0,
               "resize {}x{} to {}x{}", image.size.height, image.size.width, size.height, size.width);
  static const Passes best = ChoosePasses();
  const Passes passes = code == ResizeCode::kBest ? best : Passes{};
  if (size == image.size) return image;
  if (size.width == image.size.width) return ResizeVertically(image, size.height, passes);
  RgbImage wide = ResizeHorizontally(image, size.width, passes);
  if (size.height == wide.size.height) return wide;
  return ResizeVertically(wide, size.height, passes);
}

}  // namespace fulger
