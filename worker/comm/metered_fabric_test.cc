// What is counted; that nothing is changed is every distributed test's business, for all ranks go through it.
#include "worker/comm/metered_fabric.h"

#include <array>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"
#include "worker/comm/thread_fabric.h"

namespace fulger {
namespace {

void RunRank(ThreadWorld* world, int rank, Traffic* traffic) {
  const std::unique_ptr<Fabric> fabric = MakeMeteredFabric(world->MakeFabric(rank), traffic);
  EXPECT_EQ(fabric->rank(), rank);
  EXPECT_EQ(fabric->size(), 2);
  EXPECT_EQ(fabric->name(), "thread");
  HostStream stream;
  const std::array both{0, 1};
  const std::array self{rank};
  ASSERT_OK_AND_ASSIGN(auto group, fabric->Group(both, "both"));
  ASSERT_OK_AND_ASSIGN(auto alone, fabric->Group(self, rank == 0 ? "alone.0" : "alone.1"));
  ASSERT_OK_AND_ASSIGN(auto link, fabric->Connect(0, 1, "link"));
  std::vector<float> data(10, static_cast<float>(rank + 1)), all(20), other(3);
  const MutTensorView ten(data.data(), DType::kF32, {10});
  ASSERT_OK(alone->AllReduceSum(stream, ten));  // nothing goes anywhere
  ASSERT_OK(group->AllReduceSum(stream, ten));  // 40 bytes
  EXPECT_EQ(data[9], 3);
  ASSERT_OK(group->AllGather(stream, ten, MutTensorView(all.data(), DType::kF32, {20})));  // 80
  ASSERT_OK(group->Broadcast(stream, ten, 0));                                             // 40
  ASSERT_OK(group->Barrier(stream));
  const MutTensorView three(other.data(), DType::kF32, {3});
  if (rank == 0) {
    ASSERT_OK(link->Send(stream, three));
  } else {
    ASSERT_OK(link->Recv(stream, three));
  }
  ASSERT_OK(fabric->Progress().status());
}

TEST(MeteredFabricTest, CountsBytesAndTime) {
  ThreadWorld world(2);
  std::array<Traffic, 2> traffic;
  std::thread other([&] { RunRank(&world, 1, &traffic[1]); });
  RunRank(&world, 0, &traffic[0]);
  other.join();
  for (const Traffic& t : traffic) {
    EXPECT_EQ(t.collective_bytes, 160u);
    EXPECT_GT(t.collective_seconds, 0);
  }
  EXPECT_EQ(traffic[0].link_bytes, 12u);  // the sender's
  EXPECT_EQ(traffic[1].link_bytes, 0u);
}

TEST(MeteredFabricTest, AbortGoesThrough) {
  Traffic traffic;
  const std::unique_ptr<Fabric> fabric = MakeMeteredFabric(MakeSingleFabric(), &traffic);
  const std::array self{0};
  ASSERT_OK_AND_ASSIGN(auto group, fabric->Group(self, "all"));
  fabric->Abort(Unavailable("shutting down"));
  HostStream stream;
  EXPECT_THAT(group->Barrier(stream),
              StatusIs(absl::StatusCode::kAborted, testing::HasSubstr("shutting down")));
}

}  // namespace
}  // namespace fulger
