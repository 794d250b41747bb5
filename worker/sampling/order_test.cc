#include "worker/sampling/order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace fulger {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

// Coarse values, so that there are many ties; some tokens are out.
std::vector<float> Coarse(size_t count, uint32_t seed) {
  std::vector<float> logits(count);
  uint32_t state = seed;
  for (float& logit : logits) {
    state = state * 1664525u + 1013904223u;
    logit = state % 11 == 0 ? kOut : static_cast<float>((state >> 16) % 500) * 0.25f - 60.0f;
  }
  return logits;
}

std::vector<Ranked> SortedAll(const std::vector<float>& logits) {
  std::vector<Ranked> all;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] != kOut) all.push_back({logits[i], static_cast<int32_t>(i)});
  }
  std::sort(all.begin(), all.end(), Before);
  return all;
}

TEST(OrderTest, HeadIsTheHeadOfTheSortedVocabulary) {
  for (const size_t vocabulary : {1u, 2u, 1000u, 5000u, 40'000u}) {
    const std::vector<float> logits = Coarse(vocabulary, 7);
    const std::vector<Ranked> all = SortedAll(logits);
    for (const int64_t count : {0, 1, 2, 20, 255, 256, 1024, 3000, 100'000}) {
      const std::vector<Ranked> head = HeadOfOrder(logits, count);
      ASSERT_EQ(head.size(), std::min(all.size(), static_cast<size_t>(count))) << vocabulary << " " << count;
      for (size_t i = 0; i < head.size(); ++i) ASSERT_EQ(head[i].id, all[i].id) << "place " << i;
    }
  }
}

TEST(OrderTest, HeadOfRisingLogits) {
  std::vector<float> logits(10'000);
  for (size_t i = 0; i < logits.size(); ++i) logits[i] = static_cast<float>(i);
  const std::vector<Ranked> head = HeadOfOrder(logits, 3);
  ASSERT_EQ(head.size(), 3u);
  EXPECT_EQ(head[0].id, 9999);
  EXPECT_EQ(head[2].id, 9997);
}

TEST(OrderTest, FirstIsTheLowestIdOfATie) {
  for (const size_t vocabulary : {3u, 16u, 17u, 100u}) {
    std::vector<float> logits(vocabulary, -5.0f);
    EXPECT_EQ(FirstOfOrder(logits), 0);
    logits[vocabulary - 1] = 2.0f;
    EXPECT_EQ(FirstOfOrder(logits), static_cast<int32_t>(vocabulary - 1));
    logits[1] = 2.0f;
    EXPECT_EQ(FirstOfOrder(logits), 1);
  }
  EXPECT_EQ(FirstOfOrder(std::vector<float>(5, kOut)), -1);
  EXPECT_EQ(FirstOfOrder(std::vector<float>{-0.0f, 0.0f}), 0);
  EXPECT_EQ(FirstOfOrder({}), -1);
}

TEST(OrderTest, WeightsAreExponentials) {
  std::vector<float> logits;
  for (int i = 0; i < 2003; ++i) logits.push_back(-0.04f * static_cast<float>(i));
  std::vector<float> weights(logits.size());
  const double total = Weights(logits, 0.0f, 1.0f, 0.0f, weights);
  double sum = 0;
  for (size_t i = 0; i < logits.size(); ++i) {
    const double expected = std::exp(static_cast<double>(logits[i]));
    EXPECT_NEAR(static_cast<double>(weights[i]) / expected, 1.0, 4e-7) << logits[i];
    sum += expected;
  }
  EXPECT_NEAR(total / sum, 1.0, 1e-6);
  EXPECT_EQ(weights[0], 1.0f);
}

TEST(OrderTest, WeightsOfExtremes) {
  const std::vector<float> logits = {3.0f, kOut, -1e30f, 2.9f, 0.0f};
  std::vector<float> weights(logits.size());
  EXPECT_EQ(Weights(logits, 3.0f, 1e-38f, 0.0f, weights), 1.0);
  EXPECT_EQ(weights, (std::vector<float>{1, 0, 0, 0, 0}));
  // exp(-0.1) stays, exp(-3) is below the least weight.
  Weights(logits, 3.0f, 1.0f, 0.5f, weights);
  EXPECT_NEAR(weights[3], 0.904837f, 1e-6f);
  EXPECT_EQ(weights[4], 0.0f);
}

// Against a walk along the sorted vocabulary, with many ties, at temperatures that spread and crowd the
// ranges.
TEST(OrderTest, MassAlongOrderIsTheWalk) {
  for (const float temperature : {0.01f, 1.0f, 40.0f}) {
    const std::vector<float> logits = Coarse(5000, 3);
    const std::vector<Ranked> all = SortedAll(logits);
    const float largest = all.front().logit;
    MassAlongOrder mass;
    mass.Assign(logits, largest, temperature, 0.0f);
    std::vector<double> cumulative;
    double sum = 0;
    for (const Ranked& token : all) {
      sum += std::exp(static_cast<double>((token.logit - largest) / temperature));
      cumulative.push_back(sum);
    }
    EXPECT_NEAR(mass.total() / sum, 1.0, 1e-6);
    for (size_t i = 0; i < all.size(); i += 7) {
      const double before = i == 0 ? 0 : cumulative[i - 1];
      const double share = (cumulative[i] - before) / sum;
      if (share < 1e-5) continue;  // thinner than the errors of single exponentials
      const double middle = (before / sum + share / 2) * mass.total();
      for (const bool reach : {false, true}) {
        const MassAlongOrder::Place place = mass.Find(middle, reach);
        EXPECT_EQ(place.token.id, all[i].id) << "place " << i << ", temperature " << temperature;
        EXPECT_NEAR(place.mass / cumulative[i], 1.0, 1e-6);
      }
    }
    EXPECT_EQ(mass.Find(0, false).token.id, all.front().id);
    EXPECT_EQ(mass.Find(2 * mass.total(), false).mass, mass.Find(2 * mass.total(), true).mass);
  }
}

TEST(OrderTest, ReachStopsAtTheMassItself) {
  const std::vector<float> logits = {0.0f, 0.0f, 0.0f, 0.0f};
  MassAlongOrder mass;
  mass.Assign(logits, 0.0f, 1.0f, 0.0f);
  EXPECT_EQ(mass.total(), 4.0);
  EXPECT_EQ(mass.Find(2.0, true).token.id, 1);
  EXPECT_EQ(mass.Find(2.0, false).token.id, 2);
  EXPECT_EQ(mass.Find(4.0, false).token.id, 3);
}

}  // namespace
}  // namespace fulger
