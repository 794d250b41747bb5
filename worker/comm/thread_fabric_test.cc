#include "worker/comm/thread_fabric.h"

#include <atomic>
#include <ctime>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"

namespace fulger {

FabricTraits Traits() { return {}; }

void RunRanks(int ranks, const FabricOptions& options, const RankBody& body) {
  ThreadWorld world(ranks, options);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const std::unique_ptr<Fabric> fabric = world.MakeFabric(rank);
      HostStream stream;
      body(*fabric, stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

namespace {

INSTANTIATE_TEST_SUITE_P(Thread, CommSuite, testing::Values(1, 2, 3, 8, 32));

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

MutTensorView View(std::vector<float>& values) {
  return MutTensorView(values.data(), DType::kF32, {static_cast<int64_t>(values.size())});
}

TEST(ThreadFabricTest, OneAbortWakesEveryRank) {
  std::atomic<int> waiting = 0;
  RunRanks(8, {.deadline = std::chrono::milliseconds(30000)}, [&](Fabric& fabric, Stream& stream) {
    const int all[] = {0, 1, 2, 3, 4, 5, 6, 7};
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(all, "all"));
    ++waiting;
    if (fabric.rank() == 7) {
      while (waiting < 8) std::this_thread::yield();
      fabric.Abort(Unavailable("rank 7 gives up"));
      return;
    }
    EXPECT_THAT(group->Barrier(stream), StatusIs(StatusCode::kAborted, HasSubstr("rank 7 gives up")));
  });
}

TEST(ThreadFabricTest, DifferentCallsAreNamed) {
  std::atomic<int> mismatches = 0;
  RunRanks(2, {.deadline = std::chrono::milliseconds(30000)}, [&](Fabric& fabric, Stream& stream) {
    const int all[] = {0, 1};
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(all, "pair"));
    std::vector<float> values(static_cast<size_t>(3 + fabric.rank()));
    const absl::Status status = group->AllReduceSum(stream, View(values));
    EXPECT_THAT(status,
                StatusIs(StatusCode::kInternal, AllOf(HasSubstr("group pair: all-reduce"),
                                                      HasSubstr("of 12 bytes"), HasSubstr("of 16 bytes"))));
  });
}

TEST(ThreadFabricTest, MembersMustAgree) {
  ThreadWorld world(3);
  const auto a = world.MakeFabric(0), b = world.MakeFabric(1);
  const int pair[] = {0, 1}, three[] = {0, 1, 2};
  ASSERT_OK_AND_ASSIGN(auto first, a->Group(pair, "stage"));
  EXPECT_THAT(
      b->Group(three, "stage").status(),
      StatusIs(StatusCode::kInternal, AllOf(HasSubstr("0, 1, 2"), HasSubstr("another member said 0, 1"))));
  ASSERT_OK_AND_ASSIGN(auto link, a->Connect(0, 1, "ids"));
  EXPECT_THAT(b->Connect(1, 0, "ids").status(), StatusIs(StatusCode::kInternal, HasSubstr("0 -> 1")));
}

// Collectives and links hold what they need.
TEST(ThreadFabricTest, LinksOutliveTheWorld) {
  std::unique_ptr<Link> send, receive;
  {
    ThreadWorld world(2);
    ASSERT_OK_AND_ASSIGN(send, world.MakeFabric(0)->Connect(0, 1, "x"));
    ASSERT_OK_AND_ASSIGN(receive, world.MakeFabric(1)->Connect(0, 1, "x"));
  }
  HostStream stream;
  std::vector<float> value = {4.0f}, got = {0.0f};
  ASSERT_OK(send->Send(stream, View(value)));
  ASSERT_OK(receive->Recv(stream, View(got)));
  EXPECT_EQ(got[0], 4.0f);
}

// Waiters sleep: 31 ranks that wait for the last one cost next to no CPU time.
TEST(ThreadFabricTest, WaitersDoNotSpin) {
  const std::clock_t before = std::clock();
  RunRanks(32, {.deadline = std::chrono::milliseconds(500)}, [](Fabric& fabric, Stream& stream) {
    std::vector<int> all(32);
    for (int i = 0; i < 32; ++i) all[static_cast<size_t>(i)] = i;
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(all, "all"));
    if (fabric.rank() == 31) return;
    EXPECT_THAT(group->Barrier(stream), StatusIs(StatusCode::kDeadlineExceeded, HasSubstr("rank 31")));
  });
  const double seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(seconds, 0.25);  // spinning would take the machine's cores for half a second
}

}  // namespace
}  // namespace fulger
