#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"

namespace fulger {

FabricTraits Traits() { return {}; }

void RunRanks(int ranks, const FabricOptions&, const RankBody& body) {
  ASSERT_EQ(ranks, 1);
  const std::unique_ptr<Fabric> fabric = MakeSingleFabric();
  HostStream stream;
  body(*fabric, stream);
}

namespace {

INSTANTIATE_TEST_SUITE_P(Single, CommSuite, testing::Values(1));

TEST(SingleFabricTest, ReceiveFromAnEmptyQueueEnds) {
  const std::unique_ptr<Fabric> fabric = MakeSingleFabric();
  EXPECT_EQ(fabric->name(), "single");
  ASSERT_OK_AND_ASSIGN(auto link, fabric->Connect(0, 0, "feedback"));
  HostStream stream;
  float value = 0;
  EXPECT_THAT(link->Recv(stream, MutTensorView(&value, DType::kF32, {1})),
              StatusIs(absl::StatusCode::kInternal, testing::HasSubstr("link feedback: receive")));
}

TEST(SingleFabricTest, AbortEndsCollectives) {
  const std::unique_ptr<Fabric> fabric = MakeSingleFabric();
  const int self[] = {0};
  ASSERT_OK_AND_ASSIGN(auto group, fabric->Group(self, "all"));
  HostStream stream;
  ASSERT_OK(group->Barrier(stream));
  fabric->Abort(Unavailable("shutting down"));
  EXPECT_THAT(group->Barrier(stream),
              StatusIs(absl::StatusCode::kAborted, testing::HasSubstr("shutting down")));
}

}  // namespace
}  // namespace fulger
