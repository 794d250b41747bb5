#include "worker/sampling/vocab_mask.h"

#include <gtest/gtest.h>

#include <utility>

namespace fulger {
namespace {

std::vector<std::pair<int64_t, int64_t>> Runs(const VocabMask& mask) {
  std::vector<std::pair<int64_t, int64_t>> runs;
  for (const VocabMask::Run& run : mask.runs()) runs.emplace_back(run.begin, run.end);
  return runs;
}
using Expected = std::vector<std::pair<int64_t, int64_t>>;

TEST(VocabMaskTest, AllUsable) { EXPECT_EQ(Runs(VocabMask(10)), (Expected{{0, 10}})); }

TEST(VocabMaskTest, HolesInAnyOrderWithRepeats) {
  const std::vector<int32_t> unused = {9, 0, 4, 3, 4, -2, 77, 8};
  const VocabMask mask(10, unused);
  EXPECT_EQ(Runs(mask), (Expected{{1, 3}, {5, 8}}));
  for (const int64_t id : {1, 2, 5, 6, 7}) EXPECT_TRUE(mask.usable(id)) << id;
  for (const int64_t id : {-1, 0, 3, 4, 8, 9, 10, 77}) EXPECT_FALSE(mask.usable(id)) << id;
}

TEST(VocabMaskTest, NothingUsable) {
  const std::vector<int32_t> unused = {0, 1};
  EXPECT_TRUE(Runs(VocabMask(2, unused)).empty());
  EXPECT_FALSE(VocabMask(2, unused).usable(0));
}

}  // namespace
}  // namespace fulger
