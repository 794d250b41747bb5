#include "coordinator/scheduler/route.h"

#include <gtest/gtest.h>

#include <vector>

namespace fulger {
namespace {

size_t Choose(std::vector<ReplicaView> views, int64_t prompt) { return ChooseReplica(views, prompt); }

TEST(ChooseReplicaTest, ByCachedPrefixThenByLoad) {
  EXPECT_EQ(Choose({{.up = true}, {.up = true}}, 100), 0U);
  EXPECT_EQ(Choose({{.up = true, .requests = 1}, {.up = true}}, 100), 1U);
  EXPECT_EQ(Choose({{.up = true, .requests = 1}, {.up = true, .cached = 90}}, 100), 1U);
  // 2,000 tokens are worth waiting behind seven requests, and not behind eight.
  EXPECT_EQ(Choose({{.up = true, .cached = 2000, .requests = 7}, {.up = true}}, 2048), 0U);
  EXPECT_EQ(Choose({{.up = true, .cached = 2000, .requests = 8}, {.up = true}}, 2048), 1U);
}

TEST(ChooseReplicaTest, OnlyThoseThatAreUp) {
  EXPECT_EQ(Choose({{.cached = 90}, {.up = true, .requests = 40}}, 100), 1U);
  EXPECT_EQ(Choose({{.cached = 90}, {}}, 100), 2U);
}

}  // namespace
}  // namespace fulger
