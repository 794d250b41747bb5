#include "coordinator/planner/job_script.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Cluster Cpus(int nodes, int ranks_per_node) {
  Cluster cluster = CpuCluster(ranks_per_node, int64_t{1} << 40, 2 * ranks_per_node);
  cluster.nodes = nodes;
  cluster.threads_per_rank = 2;
  return cluster;
}

JobRequest Request(Scheduler scheduler, int ranks) {
  return {.scheduler = scheduler,
          .folder = "/work dir",
          .deploy = "/opt/fulger/deploy",
          .programs = "/opt/fulger/bin",
          .model = "/models/it's",
          .serve_flags = {"--tp", "4", "--stage-layers", "5,3"},
          .ranks = ranks};
}

TEST(JobScript, SlurmWithFullNodes) {
  ASSERT_OK_AND_ASSIGN(const std::string script, JobScript(Request(Scheduler::kSlurm, 8), Cpus(4, 4)));
  EXPECT_EQ(script,
            "#!/usr/bin/env bash\n"
            "#SBATCH --job-name=fulger\n"
            "#SBATCH --time=04:00:00\n"
            "#SBATCH --signal=B:TERM@120\n"
            "#SBATCH --chdir=\"/work dir\"\n"
            "#SBATCH --output=\"/work dir/fulger-%j.log\"\n"
            "#SBATCH --nodes=2\n"
            "#SBATCH --ntasks=8\n"
            "#SBATCH --ntasks-per-node=4\n"
            "#SBATCH --cpus-per-task=2\n"
            "export FULGER_DEPLOY=/opt/fulger/deploy\n"
            "export FULGER_BIN=/opt/fulger/bin\n"
            "export FULGER_MODEL='/models/it'\\''s'\n"
            "export FULGER_LAYOUT='--tp 4 --stage-layers 5,3'\n"
            "export FULGER_DEVICE=cpu\n"
            "export FULGER_PORT=8000\n"
            "exec bash \"$FULGER_DEPLOY\"/slurm/serve.sbatch\n");
}

// A vision rank over: eight and eight and one, not six and six and five.
TEST(JobScript, TheLastNodeMayHaveFewer) {
  ASSERT_OK_AND_ASSIGN(const std::string slurm, JobScript(Request(Scheduler::kSlurm, 17), Cpus(3, 8)));
  EXPECT_THAT(slurm, HasSubstr("--nodes=3\n"));
  EXPECT_THAT(slurm, HasSubstr("--distribution=plane=8\n"));
  ASSERT_OK_AND_ASSIGN(const std::string pbs, JobScript(Request(Scheduler::kPbs, 17), Cpus(3, 8)));
  EXPECT_THAT(
      pbs,
      HasSubstr("#PBS -l select=2:ncpus=16:mpiprocs=8:ompthreads=2+1:ncpus=2:mpiprocs=1:ompthreads=2\n"));
  EXPECT_THAT(pbs, HasSubstr("exec bash \"$FULGER_DEPLOY\"/pbs/serve.pbs\n"));
}

TEST(JobScript, GpusAreAskedFor) {
  ASSERT_OK_AND_ASSIGN(Cluster cluster, GpuCluster("h200"));
  cluster.nodes = 2;
  ASSERT_OK_AND_ASSIGN(const std::string slurm, JobScript(Request(Scheduler::kSlurm, 16), cluster));
  EXPECT_THAT(slurm, HasSubstr("#SBATCH --gpus-per-node=8\n"));
  EXPECT_THAT(slurm, HasSubstr("export FULGER_DEVICE=cuda\n"));
  EXPECT_THAT(slurm, Not(HasSubstr("plane")));
  ASSERT_OK_AND_ASSIGN(const std::string pbs, JobScript(Request(Scheduler::kPbs, 16), cluster));
  EXPECT_THAT(pbs, HasSubstr("mpiprocs=8:ngpus=8\n"));
}

TEST(JobScript, RefusesWhatCannotBe) {
  EXPECT_THAT(
      JobScript(Request(Scheduler::kSlurm, 9), Cpus(2, 4)).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("a job of 9 ranks: 2 nodes of 4 have 8")));
  JobRequest broken = Request(Scheduler::kSlurm, 8);
  broken.options = {"--account=a\nrm -r"};
  EXPECT_THAT(JobScript(broken, Cpus(2, 4)).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("line break")));
}

}  // namespace
}  // namespace fulger
