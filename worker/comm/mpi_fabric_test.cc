// The same suite, one rank per process: ctest runs it under mpirun with several numbers of ranks.
#include "worker/comm/mpi_fabric.h"

#include <mpi.h>

#include <cstdio>
#include <ctime>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"
#include "worker/comm/launcher.h"

namespace fulger {

FabricTraits Traits() { return {}; }

// The parameter means nothing here: mpirun has decided. MPI is up for the whole program, so that each test
// gets a fresh fabric, also after one that failed.
void RunRanks(int, const FabricOptions& options, const RankBody& body) {
  ASSERT_OK_AND_ASSIGN(const std::unique_ptr<Fabric> fabric, MakeMpiFabric(options));
  HostStream stream;
  body(*fabric, stream);
}

namespace {

INSTANTIATE_TEST_SUITE_P(Mpi, CommSuite, testing::Values(0));

TEST(MpiFabricTest, RanksAreThoseOfTheLauncher) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, ProbeLauncher());
  ASSERT_OK_AND_ASSIGN(const auto fabric, MakeMpiFabric({}));
  EXPECT_EQ(launcher.name, "mpirun");
  EXPECT_EQ(fabric->rank(), launcher.rank);
  EXPECT_EQ(fabric->size(), launcher.size);
  EXPECT_EQ(fabric->name(), "mpi");
}

// All ranks wait for a message that never comes, for half a second: polling must not burn the cores.
TEST(MpiFabricTest, LongWaitsCostLittle) {
  RunRanks(0, {.deadline = std::chrono::milliseconds(500)}, [](Fabric& fabric, Stream& stream) {
    const int n = fabric.size(), me = fabric.rank();
    const int previous = (me + n - 1) % n;
    ASSERT_OK_AND_ASSIGN(auto link, fabric.Connect(previous, me, "to " + std::to_string(me)));
    float value = 0;
    const std::clock_t before = std::clock();
    EXPECT_THAT(link->Recv(stream, MutTensorView(&value, DType::kF32, {1})),
                StatusIs(absl::StatusCode::kDeadlineExceeded, testing::HasSubstr("link to")));
    const double seconds = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
    EXPECT_LT(seconds, 0.1);
  });
}

// Ranks that mean different groups by one name learn it, all of them.
TEST(MpiFabricTest, MembersMustAgree) {
  RunRanks(0, {.deadline = std::chrono::milliseconds(2000)}, [](Fabric& fabric, Stream&) {
    if (fabric.rank() > 1) return;
    const std::vector<int> pair = {0, 1}, odd = {0, 1, 2};
    if (fabric.size() < 3) return;
    const auto group = fabric.Group(fabric.rank() == 0 ? pair : odd, "stage");
    EXPECT_THAT(group.status(),
                StatusIs(absl::StatusCode::kInternal, testing::HasSubstr("group stage: create")));
  });
}

TEST(MpiFabricTest, AbsentMemberOfAGroupIsNamed) {
  RunRanks(0, {.deadline = std::chrono::milliseconds(200)}, [](Fabric& fabric, Stream&) {
    const std::vector<int> pair = {0, 1};
    if (fabric.rank() != 0) return;
    EXPECT_THAT(
        fabric.Group(pair, "stage").status(),
        StatusIs(absl::StatusCode::kDeadlineExceeded,
                 testing::AllOf(testing::HasSubstr("group stage: create"), testing::HasSubstr("rank 1"))));
  });
}

// A rank that calls another operation than the others is noticed and never mixes up data.
TEST(MpiFabricTest, DifferentCallsReachTheDeadline) {
  RunRanks(0, {.deadline = std::chrono::milliseconds(1500)}, [](Fabric& fabric, Stream& stream) {
    if (fabric.rank() > 1) return;
    const std::vector<int> pair = {0, 1};
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(pair, "pair"));
    float value = 1;
    const MutTensorView view(&value, DType::kF32, {1});
    const absl::Status status =
        fabric.rank() == 0 ? group->AllReduceSum(stream, view) : group->Barrier(stream);
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kDeadlineExceeded, testing::HasSubstr("group pair")));
    EXPECT_EQ(value, 1.0f);
  });
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  const int failures = RUN_ALL_TESTS();
  MPI_Finalize();
  return failures;
}
