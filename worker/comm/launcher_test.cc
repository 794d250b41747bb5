#include "worker/comm/launcher.h"

#include <map>

#include "tests/support/status_matchers.h"
#include "worker/comm/fabric_factory.h"

namespace fulger {
namespace {

using testing::HasSubstr;

absl::StatusOr<Launcher> Probe(const std::map<std::string, std::string>& env) {
  return ProbeLauncher([&](const char* name) -> const char* {
    const auto it = env.find(name);
    return it == env.end() ? nullptr : it->second.c_str();
  });
}

TEST(LauncherTest, NothingSaid) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, Probe({}));
  EXPECT_EQ(launcher.name, "none");
  EXPECT_EQ(launcher.size, 0);
}

TEST(LauncherTest, MpirunInsideASlurmJobWins) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, Probe({{"OMPI_COMM_WORLD_RANK", "3"},
                                                       {"OMPI_COMM_WORLD_SIZE", "8"},
                                                       {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                                       {"PMIX_RANK", "3"},
                                                       {"SLURM_PROCID", "0"},
                                                       {"SLURM_NTASKS", "2"}}));
  EXPECT_EQ(launcher.name, "mpirun");
  EXPECT_EQ(launcher.rank, 3);
  EXPECT_EQ(launcher.size, 8);
  EXPECT_EQ(launcher.local_rank, 1);
}

TEST(LauncherTest, Srun) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, Probe({{"SLURM_STEP_ID", "0"},
                                                       {"SLURM_PROCID", "5"},
                                                       {"SLURM_NTASKS", "6"},
                                                       {"SLURM_LOCALID", "2"},
                                                       {"PMIX_RANK", "5"}}));
  EXPECT_EQ(launcher.name, "slurm");
  EXPECT_EQ(launcher.rank, 5);
  EXPECT_EQ(launcher.size, 6);
  EXPECT_EQ(launcher.local_rank, 2);
  EXPECT_TRUE(launcher.pmi);
}

TEST(LauncherTest, SrunWithoutAPmi) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher,
                       Probe({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "5"}, {"SLURM_NTASKS", "6"}}));
  EXPECT_EQ(launcher.name, "slurm");
  EXPECT_EQ(launcher.size, 6);
  EXPECT_FALSE(launcher.pmi);
}

// A worker that fulger itself started in the script of a job with several tasks is one alone.
TEST(LauncherTest, ABatchScriptIsNoLauncher) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, Probe({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "6"}}));
  EXPECT_EQ(launcher.name, "none");
  EXPECT_EQ(launcher.size, 0);
}

TEST(LauncherTest, PmixAlone) {
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, Probe({{"PMIX_RANK", "7"}}));
  EXPECT_EQ(launcher.name, "pmix");
  EXPECT_EQ(launcher.rank, 7);
  EXPECT_EQ(launcher.size, 0);
  EXPECT_EQ(launcher.local_rank, -1);
}

TEST(LauncherTest, NonsenseIsNamed) {
  for (const char* value : {"x", "1x", "-1", "99999999999999999999"}) {
    EXPECT_THAT(Probe({{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", value}}).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("SLURM_PROCID")))
        << value;
  }
}

TEST(FabricFactoryTest, Single) {
  ASSERT_OK_AND_ASSIGN(auto fabric, MakeFabric("single", {}));
  EXPECT_EQ(fabric->name(), "single");
}

TEST(FabricFactoryTest, RefusalsSayTheCure) {
  for (const char* name : {"thread", "nccl"}) {
    EXPECT_THAT(MakeFabric(name, {}).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr(name)));
  }
  EXPECT_THAT(MakeFabric("tcp", {}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("\"tcp\"")));
  // This program was started by no launcher (unless somebody runs it under one).
  ASSERT_OK_AND_ASSIGN(const Launcher launcher, ProbeLauncher());
  if (launcher.name == "none") {
    EXPECT_THAT(MakeFabric("mpi", {}).status(),
                StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("MPI")));
  }
}

}  // namespace
}  // namespace fulger
