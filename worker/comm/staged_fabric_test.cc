// The comm suite through a staged fabric, over thread ranks: the device here is a stand-in whose memory the
// inner fabric must never see.
#include "worker/comm/staged_fabric.h"

#include <cstring>
#include <set>
#include <thread>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/comm/comm_suite.h"
#include "worker/comm/thread_fabric.h"

namespace fulger {
namespace {

// "Device memory" is a host range behind an offset that only the copies know to undo: touching it directly
// faults.
class FarDevice final : public Device {
 public:
  std::string name() const override { return "far"; }
  std::string Describe() const override { return "memory that only copies reach"; }
  std::string Arithmetic() const override { return "none"; }
  Stream& stream() override { return stream_; }
  Ops& ops() override {
    FULGER_CHECK(false, "communication computes nothing");
    std::abort();
  }
  absl::StatusOr<Buffer> Allocate(size_t bytes) override {
    void* p = std::malloc(bytes + 1);
    return Buffer(Far(p), bytes, [](void* far) { std::free(Near(far)); });
  }
  absl::Status CopyToDevice(Stream&, const void* host, void* device, size_t bytes) override {
    if (bytes > 0) std::memcpy(Near(device), host, bytes);
    return absl::OkStatus();
  }
  absl::Status CopyToHost(Stream&, const void* device, void* host, size_t bytes) override {
    if (bytes > 0) std::memcpy(host, Near(device), bytes);
    return absl::OkStatus();
  }
  absl::Status Copy(Stream&, const void*, void*, size_t) override { return Internal("not needed"); }
  absl::Status Zero(Stream&, void*, size_t) override { return Internal("not needed"); }
  bool host_accessible() const override { return false; }
  bool holds(const void* p) const override { return (reinterpret_cast<uintptr_t>(p) & kFar) != 0; }

 private:
  static constexpr uintptr_t kFar = uintptr_t{1} << 62;  // no user address of this machine has it
  static void* Far(void* p) { return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(p) | kFar); }
  static void* Near(const void* p) { return reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(p) & ~kFar); }
  HostStream stream_;
};

}  // namespace

FabricTraits Traits() { return {}; }

void RunRanks(int ranks, const FabricOptions& options, const RankBody& body) {
  ThreadWorld world(ranks, options);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      FarDevice device;
      const std::unique_ptr<Fabric> fabric = MakeStagedFabric(world.MakeFabric(rank), device);
      HostStream stream;
      body(*fabric, stream);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

namespace {

INSTANTIATE_TEST_SUITE_P(Staged, CommSuite, testing::Values(1, 3));

TEST(StagedFabric, DeviceTensorsPassThroughTheHost) {
  ThreadWorld world(3, {.deadline = std::chrono::milliseconds(30000)});
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&world, rank] {
      FarDevice device;
      Stream& stream = device.stream();
      const std::unique_ptr<Fabric> fabric = MakeStagedFabric(world.MakeFabric(rank), device);
      EXPECT_EQ(fabric->name(), "thread through host memory");
      const int all[] = {0, 1, 2};
      ASSERT_OK_AND_ASSIGN(auto group, fabric->Group(all, "all"));
      std::unique_ptr<Link> link;
      if (rank < 2) {
        ASSERT_OK_AND_ASSIGN(link, fabric->Connect(0, 1, "pair"));
      }
      ASSERT_OK_AND_ASSIGN(const Buffer one, device.Allocate(4 * sizeof(float)));
      ASSERT_OK_AND_ASSIGN(const Buffer many, device.Allocate(12 * sizeof(float)));
      const MutTensorView x(one.data(), DType::kF32, {4});
      const MutTensorView y(many.data(), DType::kF32, {3, 4});
      const auto put = [&](float v) {
        const std::vector<float> values(4, v);
        ASSERT_OK(device.CopyToDevice(stream, values.data(), one.data(), 4 * sizeof(float)));
      };
      const auto get = [&](const MutTensorView& view) {
        std::vector<float> values(static_cast<size_t>(view.elements()));
        EXPECT_OK(device.CopyToHost(stream, view.raw(), values.data(), static_cast<size_t>(view.bytes())));
        return values;
      };
      put(static_cast<float>(rank + 1));
      ASSERT_OK(group->AllReduceSum(stream, x));
      EXPECT_EQ(get(x), std::vector<float>(4, 6.0F));
      put(static_cast<float>(rank));
      ASSERT_OK(group->AllGather(stream, x, y));
      EXPECT_EQ(get(y), (std::vector<float>{0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2}));
      ASSERT_OK(group->Broadcast(stream, x, 2));
      EXPECT_EQ(get(x), std::vector<float>(4, 2.0F));
      if (rank == 0) {
        put(9);
        ASSERT_OK(link->Send(stream, x));
      }
      if (rank == 1) {
        ASSERT_OK(link->Recv(stream, x));
        EXPECT_EQ(get(x), std::vector<float>(4, 9.0F));
      }
      ASSERT_OK(group->Barrier(stream));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace fulger
