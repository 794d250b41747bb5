#include "worker/sampling/philox.h"

#include <gtest/gtest.h>

namespace fulger {
namespace {

// The known-answer vectors that the Random123 distribution publishes for philox4x32, 10 rounds.
TEST(PhiloxTest, KnownAnswers) {
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Seed 0, choice 0, position 0 is the first vector: 0x6627e8d5 gives the high 27 bits, 0xe169c58d the low 26.
TEST(PhiloxTest, UniformTakesTheHighBits) {
  const double expected =
      (static_cast<double>(0x6627e8d5u >> 5) * 67108864.0 + static_cast<double>(0xe169c58du >> 6)) /
      9007199254740992.0;
  EXPECT_EQ(UniformAt(0, 0, 0), expected);
  EXPECT_NEAR(expected, 0.399046, 1e-6);
}

TEST(PhiloxTest, SeedChoiceAndPositionAllMatter) {
  const double u = UniformAt(7, 0, 100);
  EXPECT_EQ(u, UniformAt(7, 0, 100));
  EXPECT_NE(u, UniformAt(8, 0, 100));
  EXPECT_NE(u, UniformAt(7 + (uint64_t{1} << 32), 0, 100));
  EXPECT_NE(u, UniformAt(7, 1, 100));
  EXPECT_NE(u, UniformAt(7, 0, 101));
  EXPECT_NE(u, UniformAt(7, 0, 100 + (int64_t{1} << 32)));
}

TEST(PhiloxTest, UniformIsBelowOneAndEvenlySpread) {
  constexpr int kDraws = 64000, kBins = 64;
  int bins[kBins] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double u = UniformAt(42, 0, i);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++bins[static_cast<int>(u * kBins)];
  }
  double chi_square = 0;
  for (const int n : bins) chi_square += (n - 1000.0) * (n - 1000.0) / 1000.0;
  EXPECT_LT(chi_square, 103.4);  // 63 degrees of freedom, p = 0.001
}

}  // namespace
}  // namespace fulger
