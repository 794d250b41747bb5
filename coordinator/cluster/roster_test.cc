#include "coordinator/cluster/roster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

v1::Hello Worker(int rank_hint, int world, int64_t pid, const std::string& transport = "mpi") {
  v1::Hello hello;
  hello.set_version("1.2.3");
  hello.set_transport(transport);
  hello.set_rank_hint(rank_hint);
  hello.set_world_hint(world);
  hello.set_host("h2");
  hello.set_pid(pid);
  return hello;
}

TEST(Roster, GivesEveryWorkerItsLaunchersRank) {
  Roster roster(3, "1.2.3", "mpi");
  for (const int rank : {2, 0, 1}) {
    EXPECT_FALSE(roster.complete());
    ASSERT_OK_AND_ASSIGN(const int given, roster.Admit(Worker(rank, 3, 100 + rank)));
    EXPECT_EQ(given, rank);
  }
  EXPECT_TRUE(roster.complete());
  ASSERT_NE(roster.Find(2), nullptr);
  EXPECT_EQ(roster.Find(2)->pid(), 102);
  EXPECT_EQ(roster.Describe(), "3 of 3 ranks have joined");
}

TEST(Roster, GivesTheFirstFreeRankToWorkersWithoutAHint) {
  Roster roster(3, "1.2.3", "nccl");
  ASSERT_OK_AND_ASSIGN(int rank, roster.Admit(Worker(1, 0, 1, "nccl")));
  EXPECT_EQ(rank, 1);
  ASSERT_OK_AND_ASSIGN(rank, roster.Admit(Worker(-1, 0, 2, "nccl")));
  EXPECT_EQ(rank, 0);
  EXPECT_EQ(roster.Describe(), "2 of 3 ranks have joined; missing: 2");
  ASSERT_OK_AND_ASSIGN(rank, roster.Admit(Worker(-1, 0, 3, "nccl")));
  EXPECT_EQ(rank, 2);
}

TEST(Roster, RefusesAnotherVersion) {
  Roster roster(2, "1.2.4", "mpi");
  EXPECT_THAT(roster.Admit(Worker(0, 2, 7)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("host h2, pid 7"), HasSubstr("1.2.3"), HasSubstr("1.2.4"))));
  EXPECT_EQ(roster.Describe(), "0 of 2 ranks have joined; missing: 0, 1");
}

TEST(Roster, RefusesAnotherTransport) {
  Roster roster(1, "1.2.3", "single");
  EXPECT_THAT(roster.Admit(Worker(0, 1, 7, "nccl")).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("offers transport nccl, the layout needs single")));
}

v1::Hello GpuWorker(int rank_hint, int world) {
  v1::Hello hello = Worker(rank_hint, world, 7, "nccl");
  hello.set_device("cuda:0");
  return hello;
}

TEST(Roster, GpuRanksTakeTheTransportThatTheCoordinatorNames) {
  for (const char* transport : {"single", "nccl", "mpi"}) {
    const int ranks = transport == std::string("single") ? 1 : 2;
    Roster roster(ranks, "1.2.3", transport, /*gpus=*/true);
    SCOPED_TRACE(transport);
    EXPECT_OK(roster.Admit(GpuWorker(0, ranks)).status());
  }
  // NCCL needs no launcher, MPI does.
  Roster nccl(2, "1.2.3", "nccl", /*gpus=*/true);
  EXPECT_OK(nccl.Admit(GpuWorker(-1, 0)).status());
  Roster mpi(2, "1.2.3", "mpi", /*gpus=*/true);
  EXPECT_THAT(mpi.Admit(GpuWorker(-1, 0)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("MPI world of size 1")));
}

TEST(Roster, RefusesAnotherKindOfDevice) {
  Roster gpus(2, "1.2.3", "nccl", /*gpus=*/true);
  v1::Hello cpu = Worker(0, 2, 7);
  cpu.set_device("cpu");
  EXPECT_THAT(gpus.Admit(cpu).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("computes on cpu"), HasSubstr("told --device cuda"))));
  Roster cpus(2, "1.2.3", "mpi");
  EXPECT_THAT(cpus.Admit(GpuWorker(0, 2)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("computes on cuda:0"), HasSubstr("told --device cpu"))));
}

TEST(Roster, RefusesARankThatIsClaimed) {
  Roster roster(3, "1.2.3", "mpi");
  ASSERT_TRUE(roster.Admit(Worker(1, 3, 7)).ok());
  EXPECT_THAT(
      roster.Admit(Worker(1, 3, 8)).status(),
      StatusIs(absl::StatusCode::kAlreadyExists, AllOf(HasSubstr("pid 8 claims rank 1"), HasSubstr("pid 7"))))
      << "both processes are named";
}

TEST(Roster, RefusesOneTooMany) {
  Roster roster(2, "1.2.3", "nccl");
  ASSERT_TRUE(roster.Admit(Worker(-1, 0, 1, "nccl")).ok());
  ASSERT_TRUE(roster.Admit(Worker(-1, 0, 2, "nccl")).ok());
  EXPECT_THAT(
      roster.Admit(Worker(-1, 0, 3, "nccl")).status(),
      StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("one too many: all 2 ranks of the layout")));
  EXPECT_THAT(
      roster.Admit(Worker(2, 0, 4, "nccl")).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("claims rank 2, the layout has ranks 0..1")));
}

TEST(Roster, RefusesALauncherWithAnotherNumberOfRanks) {
  Roster roster(4, "1.2.3", "mpi");
  EXPECT_THAT(roster.Admit(Worker(0, 3, 7)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("its launcher started 3 ranks, the layout has 4")));
  EXPECT_THAT(roster.Admit(Worker(0, 5, 7)).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("its launcher started 5 ranks, the layout has 4")));
}

// The usual sign of a launcher whose PMI the MPI library does not speak: every rank believes to be alone.
TEST(Roster, SaysWhatAnMpiWorldOfSizeOneMeans) {
  Roster roster(4, "1.2.3", "mpi");
  for (const int world : {0, 1}) {
    EXPECT_THAT(roster.Admit(Worker(0, world, 7, "single")).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         AllOf(HasSubstr("MPI world of size 1"), HasSubstr("PMI"), HasSubstr("mpirun"),
                               HasSubstr("srun --mpi=pmix"))));
  }
}

TEST(Roster, AWorkerThatLeftMakesRoom) {
  Roster roster(2, "1.2.3", "mpi");
  ASSERT_TRUE(roster.Admit(Worker(1, 2, 7)).ok());
  roster.Remove(1);
  EXPECT_EQ(roster.Find(1), nullptr);
  ASSERT_OK_AND_ASSIGN(const int rank, roster.Admit(Worker(1, 2, 8)));
  EXPECT_EQ(rank, 1);
}

}  // namespace
}  // namespace fulger
