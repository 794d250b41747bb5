#include <cmath>

#include "kernels/suite/op_suite.h"

namespace fulger {
namespace {

TEST_P(OpSuite, PatchifyLaysPixelsOutLikeTheWeight) {
  for (const int64_t n : {0, 1, 2}) {
    constexpr int64_t kSide = 12;
    constexpr int64_t kPatch = 4;
    Values pixels;
    for (int64_t i = 0; i < n * kSide * kSide * 3; ++i) pixels.push_back(static_cast<double>(Pick(0, 255)));
    const Operand tiles = InputOf(DType::kU8, {n, kSide, kSide, 3}, pixels);
    const Operand out = Output(DType::kF32, {n * 9, 3 * kPatch * kPatch}, Pick(0, 3));
    const std::array<float, 3> mean = {0.48145466F, 0.4578275F, 0.40821073F};
    const std::array<float, 3> std = {0.26862954F, 0.26130258F, 0.27577711F};
    ASSERT_OK(ops().Patchify(
        stream(), {.tiles = tiles.view(), .patch = kPatch, .mean = mean, .std = std, .out = out.mut()}));
    Values want;
    for (int64_t tile = 0; tile < n; ++tile) {
      for (int64_t py = 0; py < 3; ++py) {
        for (int64_t px = 0; px < 3; ++px) {
          for (size_t c = 0; c < 3; ++c) {
            for (int64_t y = 0; y < kPatch; ++y) {
              for (int64_t x = 0; x < kPatch; ++x) {
                const int64_t at = ((tile * kSide + py * kPatch + y) * kSide + px * kPatch + x) * 3;
                const double pixel = pixels[static_cast<size_t>(at) + c];
                want.push_back((pixel / 255 - static_cast<double>(mean[c])) / static_cast<double>(std[c]));
              }
            }
          }
        }
      }
    }
    EXPECT_TRUE(Near(out.shape(), out.Download(), want, [](size_t) { return 8 * kEps; }));
  }
}

TEST_P(OpSuite, VitEmbedPutsTheClassTokenFirst) {
  for (const int64_t n : {0, 1, 3}) {
    const int64_t d = Pick(1, 40);
    const Operand patches = Input(DType::kF32, {n * 4, d}, 1.0, Pick(0, 2));
    const Operand cls = Input(DType::kBF16, {d});
    const Operand position = Input(DType::kF32, {5, d});
    const Operand out = Output(DType::kF32, {n, 5, d});
    ASSERT_OK(ops().VitEmbed(
        stream(),
        {.patches = patches.view(), .cls = cls.view(), .position = position.view(), .out = out.mut()}));
    Values want;
    for (int64_t tile = 0; tile < n; ++tile) {
      for (int64_t p = 0; p < 5; ++p) {
        for (int64_t i = 0; i < d; ++i) {
          const double token = p == 0 ? cls.values()[static_cast<size_t>(i)]
                                      : patches.values()[static_cast<size_t>((tile * 4 + p - 1) * d + i)];
          want.push_back(token + position.values()[static_cast<size_t>(p * d + i)]);
        }
      }
    }
    EXPECT_TRUE(Near(out.shape(), out.Download(), want, [&](size_t i) { return kEps * std::abs(want[i]); }));
  }
}

}  // namespace
}  // namespace fulger
