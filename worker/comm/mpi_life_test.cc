// The life of a worker process: the fabric starts MPI, is used, and ends it.
#include <mpi.h>

#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"
#include "worker/comm/fabric_factory.h"

namespace fulger {
namespace {

TEST(MpiLifeTest, StartsAndEndsMpiOnce) {
  {
    ASSERT_OK_AND_ASSIGN(std::unique_ptr<Fabric> fabric, MakeFabric("mpi", {}));
    std::vector<int> all;
    for (int r = 0; r < fabric->size(); ++r) all.push_back(r);
    ASSERT_OK_AND_ASSIGN(const auto group, fabric->Group(all, "all"));
    const int size = fabric->size();
    fabric.reset();  // the group lives on
    HostStream stream;
    float value = 1;
    ASSERT_OK(group->AllReduceSum(stream, MutTensorView(&value, DType::kF32, {1})));
    EXPECT_EQ(value, static_cast<float>(size));
    int finalised = 0;
    MPI_Finalized(&finalised);
    EXPECT_EQ(finalised, 0);
  }
  int finalised = 0;
  MPI_Finalized(&finalised);
  EXPECT_EQ(finalised, 1);
  EXPECT_THAT(MakeFabric("mpi", {}).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, testing::HasSubstr("finalised")));
}

}  // namespace
}  // namespace fulger
