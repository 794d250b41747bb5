// Launching and giving up, with commands that are no workers.
#include "coordinator/cluster/local_cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/cluster/replica_test_util.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

Plan OneRank() {
  Plan plan = FiveRanks();
  plan.layout = Layout();
  plan.ranks.resize(1);
  return plan;
}

absl::Status StartAndWait(const std::string& worker_binary) {
  SteadyClock clock;
  FakeEvents events;
  ClusterOptions options;
  options.launch.worker_binary = worker_binary;
  auto cluster = LocalCluster::Create(OneRank(), options, &clock);
  if (!cluster.ok()) return cluster.status();
  EXPECT_THAT((*cluster)->control_address(), StartsWith("unix:/tmp/fulger-"));
  (*cluster)->replica().SetEvents(&events);
  RETURN_IF_ERROR((*cluster)->Start());
  return (*cluster)->WaitUntilServing(std::chrono::seconds(30));
}

TEST(LocalCluster, AWorkerBinaryThatIsNotThere) {
  EXPECT_THAT(StartAndWait("/nowhere/fulger-worker"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("cannot start /nowhere/fulger-worker")));
}

TEST(LocalCluster, AWorkerThatEndsBeforeItJoins) {
  EXPECT_THAT(StartAndWait("/bin/false"),
              StatusIs(absl::StatusCode::kUnavailable,
                       HasSubstr("the replica did not start: the worker exited with code 1")));
}

TEST(LocalCluster, WaitsForWorkersThatOthersStart) {
  SteadyClock clock;
  FakeEvents events;
  ClusterOptions options;
  options.wait_for_workers = true;
  options.control_address = "127.0.0.1:0";
  ASSERT_OK_AND_ASSIGN(auto cluster, LocalCluster::Create(FiveRanks(), options, &clock));
  cluster->replica().SetEvents(&events);
  ASSERT_OK(cluster->Start());
  EXPECT_THAT(cluster->WaitUntilServing(std::chrono::milliseconds(50)),
              StatusIs(absl::StatusCode::kDeadlineExceeded, HasSubstr("waiting for workers")));
  EXPECT_OK(cluster->health());
  cluster->Stop("test");
}

TEST(LocalCluster, SaysThatTheControlPortIsInUse) {
  SteadyClock clock;
  ClusterOptions options;
  options.wait_for_workers = true;
  options.control_address = "127.0.0.1:0";
  ASSERT_OK_AND_ASSIGN(auto first, LocalCluster::Create(FiveRanks(), options, &clock));
  options.control_address = first->control_address();
  EXPECT_THAT(LocalCluster::Create(FiveRanks(), options, &clock).status(),
              StatusIs(absl::StatusCode::kUnavailable,
                       AllOf(HasSubstr("control listener"), HasSubstr(first->control_address()))));
}

}  // namespace
}  // namespace fulger
