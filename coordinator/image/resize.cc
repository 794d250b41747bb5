// Built with -ffp-contract=off: the weights are Pillow's to the last bit.
#include "coordinator/image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "coordinator/image/resize_passes.h"

namespace fulger {
namespace {

double Bicubic(double x) {
  constexpr double kA = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((kA + 2.0) * x - (kA + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * kA;
  return 0.0;
}

ResizeTaps MakeTaps(int in, int out, const ResizePasses& passes) {
  const double scale = static_cast<double>(in) / out;
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  const double inverse = 1.0 / filter_scale;
  const auto bounds = [&](int i) {
    const double center = (i + 0.5) * scale;
    return std::pair(std::max(0, static_cast<int>(center - support + 0.5)),
                     std::min(in, static_cast<int>(center + support + 0.5)));
  };
  ResizeTaps taps;
  for (int i = 0; i < out; ++i) {
    const auto [lo, hi] = bounds(i);
    taps.first.push_back(lo);
    taps.count = std::max(taps.count, hi - lo);
  }
  taps.count = (taps.count + 3) / 4 * 4;
  taps.stride = static_cast<size_t>(taps.count / 4 * passes.packed_ints);
  taps.packed.resize(taps.stride * static_cast<size_t>(out));
  std::vector<double> exact(static_cast<size_t>(taps.count));
  std::vector<int32_t> weights(static_cast<size_t>(taps.count));
  for (int i = 0; i < out; ++i) {
    const double center = (i + 0.5) * scale;
    const auto [lo, hi] = bounds(i);
    double sum = 0.0;
    for (int j = 0; j < hi - lo; ++j) {
      exact[j] = Bicubic((j + lo - center + 0.5) * inverse);
      sum += exact[j];
    }
    std::ranges::fill(weights, 0);
    for (int j = 0; j < hi - lo; ++j) {
      const double w = sum != 0.0 ? exact[j] / sum : exact[j];
      weights[j] = static_cast<int32_t>((w < 0 ? -0.5 : 0.5) + w * (1 << kResizePrecision));
    }
    int32_t* packed = taps.packed.data() + static_cast<size_t>(i) * taps.stride;
    for (int j = 0; j < taps.count; j += 4, packed += passes.packed_ints) passes.pack(&weights[j], packed);
  }
  return taps;
}

int RoundUpRows(int rows) { return (rows + kResizeRows - 1) / kResizeRows * kResizeRows; }

// The horizontal pass, a few rows at a time as they are asked for, going down. Keeps the last of them: a
// whole picture would leave the cache and come back.
class HorizontalPass {
 public:
  // Keeps at least `keep` rows.
  HorizontalPass(const RgbImage& image, int out_width, int keep, const ResizePasses& passes)
      : image_(image),
        passes_(passes),
        taps_(MakeTaps(image.size.width, out_width, passes)),
        in_bytes_(RgbImage::RowBytes(image.size)),
        room_(in_bytes_ + static_cast<size_t>(taps_.count) * RgbImage::kChannels + kResizeSlack),
        reach_(static_cast<int>((room_ - in_bytes_) / in_bytes_) + 1),
        copies_(room_ * kResizeRows),
        kept_(RoundUpRows(keep + kResizeRows - 1)),
        stride_(static_cast<size_t>(out_width) * RgbImage::kChannels + kResizeSlack),
        rows_(stride_ * static_cast<size_t>(kept_)) {}

  const uint8_t* Row(int y) {
    while (done_ <= y) NextRows();
    return rows_.data() + stride_ * static_cast<size_t>(y % kept_);
  }

 private:
  void NextRows() {
    const uint8_t* from[kResizeRows];
    uint8_t* to[kResizeRows];
    for (int r = 0; r < kResizeRows; ++r) {
      const int y = std::min(done_ + r, image_.size.height - 1);
      from[r] = image_.Row(y).data();
      if (y + reach_ >= image_.size.height) {
        uint8_t* copy = copies_.data() + room_ * static_cast<size_t>(r);
        std::memcpy(copy, from[r], in_bytes_);
        from[r] = copy;
      }
      to[r] = rows_.data() + stride_ * static_cast<size_t>((done_ + r) % kept_);
    }
    passes_.horizontal(from, taps_, to);
    done_ += kResizeRows;
  }

  const RgbImage& image_;
  const ResizePasses& passes_;
  const ResizeTaps taps_;
  const size_t in_bytes_;  // of a row
  // A pass reads past what it needs: into the rows below, and from the lowest rows out of the picture. Those
  // are copied to where there is room behind them.
  const size_t room_;
  const int reach_;  // how many rows below a row are read into
  std::vector<uint8_t> copies_;
  const int kept_;  // a multiple of kResizeRows
  const size_t stride_;
  std::vector<uint8_t> rows_;
  int done_ = 0;  // rows made so far
};

// `row(y)` gives the rows of a picture of `height` rows and is asked for no row further up than the window of
// the last one.
template <typename RowAt>
void VerticalPass(int height, int out_height, size_t bytes, const ResizePasses& passes, const TakeRow& take,
                  RowAt row) {
  const ResizeTaps taps = MakeTaps(height, out_height, passes);
  std::vector<const uint8_t*> window(static_cast<size_t>(taps.count));
  std::vector<uint8_t> out(bytes);
  for (int y = 0; y < out_height; ++y) {
    // From below, so that all rows are made before one is pointed at.
    for (int j = taps.count - 1; j >= 0; --j) window[j] = row(std::min(taps.first[y] + j, height - 1));
    passes.vertical(window.data(), taps.of(static_cast<size_t>(y)), taps.count, bytes, out.data());
    take(y, out);
  }
}

ResizePasses PassesOf(ResizeCode code) {
  switch (code) {
#if defined(__x86_64__)
    case ResizeCode::kAvx2:
      return Avx2ResizePasses();
    case ResizeCode::kAvx512:
      return Avx512ResizePasses();
#else
    case ResizeCode::kAvx2:
    case ResizeCode::kAvx512:
#endif
    case ResizeCode::kPortable:
      return PortableResizePasses();
  }
  return PortableResizePasses();
}

}  // namespace

bool CanRun(ResizeCode code) {
  switch (code) {
#if defined(__x86_64__)
    case ResizeCode::kAvx2:
      return __builtin_cpu_supports("avx2") != 0;
    case ResizeCode::kAvx512:
      return __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
             __builtin_cpu_supports("avx512vnni") != 0;
#else
    case ResizeCode::kAvx2:
    case ResizeCode::kAvx512:
      return false;
#endif
    case ResizeCode::kPortable:
      return true;
  }
  return false;
}

ResizeCode BestResizeCode() {
  static const ResizeCode best = CanRun(ResizeCode::kAvx512) ? ResizeCode::kAvx512
                                 : CanRun(ResizeCode::kAvx2) ? ResizeCode::kAvx2
                                                             : ResizeCode::kPortable;
  return best;
}

void ResizeBicubicRows(const RgbImage& image, ImageSize size, const TakeRow& take, ResizeCode code) {
  FULGER_CHECK(image.size.height > 0 && image.size.width > 0 && size.height > 0 && size.width > 0,
               "resize {}x{} to {}x{}", image.size.height, image.size.width, size.height, size.width);
  FULGER_CHECK(CanRun(code), "resize code {}", static_cast<int>(code));
  const ResizePasses passes = PassesOf(code);
  const int height = image.size.height;
  const size_t bytes = RgbImage::RowBytes(size);
  if (size.width == image.size.width) {
    const auto row = [&](int y) { return image.Row(y).data(); };
    if (size.height != height) return VerticalPass(height, size.height, bytes, passes, take, row);
    for (int y = 0; y < height; ++y) take(y, image.Row(y));
    return;
  }
  const bool both = size.height != height;
  const int window = both ? MakeTaps(height, size.height, passes).count : 1;
  HorizontalPass wide(image, size.width, window, passes);
  if (both) {
    return VerticalPass(height, size.height, bytes, passes, take, [&](int y) { return wide.Row(y); });
  }
  for (int y = 0; y < height; ++y) take(y, {wide.Row(y), bytes});
}

RgbImage ResizeBicubic(const RgbImage& image, ImageSize size, ResizeCode code) {
  RgbImage out(size);
  ResizeBicubicRows(
      image, size, [&](int y, std::span<const uint8_t> row) { std::ranges::copy(row, out.Row(y).begin()); },
      code);
  return out;
}

}  // namespace fulger
