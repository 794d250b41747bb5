// The same suite over NCCL: ranks are threads, one GPU each. On one GPU it needs NCCL 2.30 or newer and
// NCCL_MULTI_RANK_GPU_ENABLE=1 (with NCCL_NVLS_ENABLE=0 and NCCL_MAX_CTAS=1, so that all ranks' kernels fit).
// FULGER_NCCL_LIBRARY names the library. Where no GPU answers the program says so and is skipped.
#include "worker/comm/nccl_fabric.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"
#include "worker/comm/nccl_library.h"

namespace fulger {
namespace {

constexpr int kManyRanksOnOneGpu = 23000;  // the first version that allows it

std::string LibraryPath() {
  const char* path = std::getenv("FULGER_NCCL_LIBRARY");
  return path != nullptr ? path : "";
}

int Gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace

FabricTraits Traits() {
  return {.sums_in_rank_order = false, .sees_waiting_messages = false, .names_the_missing_rank = false};
}

void RunRanks(int ranks, const FabricOptions& options, const RankBody& body) {
  const auto board = std::make_shared<RendezvousBoard>();
  const int gpus = Gpus();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const auto rendezvous = MakeLocalRendezvous(board, rank);
      auto fabric = MakeNcclFabric({.rank = rank,
                                    .size = ranks,
                                    .gpu = rank % gpus,
                                    .rendezvous = rendezvous.get(),
                                    .library = LibraryPath()},
                                   options);
      ASSERT_OK(fabric.status());
      HostStream stream;
      body(**fabric, stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

namespace {

std::vector<int> Worlds() {
  const auto library = NcclLibrary::Load(LibraryPath());
  const int gpus = Gpus();
  if (!library.ok() || gpus == 0) return {};
  const bool shared =
      (*library)->version >= kManyRanksOnOneGpu && std::getenv("NCCL_MULTI_RANK_GPU_ENABLE") != nullptr;
  std::vector<int> worlds = {1};
  for (const int ranks : {2, 3, 4}) {
    if (ranks <= gpus || shared) {
      worlds.push_back(ranks);
    } else {
      std::printf(
          "NOT TESTED: %d ranks need %d GPUs, or NCCL 2.30 and NCCL_MULTI_RANK_GPU_ENABLE=1; here are %d and "
          "NCCL %s\n",
          ranks, ranks, gpus, (*library)->Describe().c_str());
    }
  }
  return worlds;
}

INSTANTIATE_TEST_SUITE_P(Nccl, CommSuite, testing::ValuesIn(Worlds()));
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CommSuite);

// Device tensors: nothing passes through the host, and the stream's order is kept.
TEST(NcclFabricTest, DeviceMemoryInStreamOrder) {
  const std::vector<int> worlds = Worlds();
  RunRanks(worlds.back(), {.deadline = std::chrono::milliseconds(30000)}, [](Fabric& fabric, Stream&) {
    int gpus = Gpus();
    ASSERT_OK_AND_ASSIGN(const auto device, MakeDevice("cuda:" + std::to_string(fabric.rank() % gpus)));
    Stream& stream = device->stream();
    std::vector<int> all;
    for (int r = 0; r < fabric.size(); ++r) all.push_back(r);
    ASSERT_OK_AND_ASSIGN(auto group, fabric.Group(all, "all"));
    constexpr int64_t kCount = 100'003;
    ASSERT_OK_AND_ASSIGN(const Buffer buffer, device->Allocate(kCount * sizeof(float)));
    const MutTensorView data(buffer.data(), DType::kF32, {kCount});
    std::vector<float> values(kCount, static_cast<float>(fabric.rank() + 1));
    ASSERT_OK(device->CopyToDevice(stream, values.data(), buffer.data(), kCount * sizeof(float)));
    for (int i = 0; i < 3; ++i) ASSERT_OK(group->AllReduceSum(stream, data));
    ASSERT_OK(device->CopyToHost(stream, buffer.data(), values.data(), kCount * sizeof(float)));
    ASSERT_OK(stream.Synchronize());
    const int n = fabric.size();
    const float expected = static_cast<float>(n * (n + 1) / 2 * n * n);
    EXPECT_EQ(std::count(values.begin(), values.end(), expected), kCount)
        << values[0] << ", expected " << expected;
  });
}

// Only rank 0 comes: the deadline ends the wait and names the group. Needs one GPU.
TEST(NcclFabricTest, AbsentMemberReachesTheDeadline) {
  RunRanks(2, {.deadline = std::chrono::milliseconds(1000)}, [](Fabric& fabric, Stream&) {
    if (fabric.rank() != 0) return;
    const int pair[] = {0, 1};
    EXPECT_THAT(
        fabric.Group(pair, "stage.0").status(),
        StatusIs(absl::StatusCode::kDeadlineExceeded,
                 testing::AllOf(testing::HasSubstr("group stage.0"), testing::HasSubstr("ranks 0, 1"))));
  });
}

// The other way round: the one that publishes the id does not come.
TEST(NcclFabricTest, AnIdThatNeverArrivesIsNamed) {
  RunRanks(2, {.deadline = std::chrono::milliseconds(1000)}, [](Fabric& fabric, Stream&) {
    if (fabric.rank() != 1) return;
    const int pair[] = {0, 1};
    EXPECT_THAT(fabric.Group(pair, "stage.0").status(),
                StatusIs(absl::StatusCode::kDeadlineExceeded,
                         testing::AllOf(testing::HasSubstr("group stage.0"), testing::HasSubstr("rank 0"))));
  });
}

TEST(NcclFabricTest, AMissingLibraryIsNamed) {
  EXPECT_THAT(NcclLibrary::Load("/nowhere/libnccl.so").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       testing::AllOf(testing::HasSubstr("/nowhere/libnccl.so"),
                                      testing::HasSubstr("--nccl-library"))));
}

}  // namespace
}  // namespace fulger
