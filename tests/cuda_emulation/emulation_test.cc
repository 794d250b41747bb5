// The emulation sees what it is there to see: each fault of a kernel or of its host is found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <numeric>
#include <vector>

#include "base/bfloat16.h"
#include "tests/cuda_emulation/faulty_kernels.h"
#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/runtime.h"

namespace fulger::cuda_emulation {
namespace {

using testing::HasSubstr;
using testing::Not;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;  // the sanitizer ends the program where we would report
#else
constexpr bool kSanitized = false;
#endif

class Emulation : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    UseOrder(GetParam());
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&out_), kThreads * sizeof(int32_t)), cudaSuccess);
    TakeReport();
  }
  void TearDown() override {
    cudaFree(out_);
    cudaStreamDestroy(stream_);
    UseOrder("forward");
  }

  // What the kernel left, after everything has run.
  std::vector<int32_t> Run(Fault fault) {
    std::vector<int32_t> values(kThreads, -3);
    EXPECT_EQ(Reverse(stream_, fault, out_), cudaSuccess);
    cudaMemcpyAsync(values.data(), out_, kThreads * sizeof(int32_t), cudaMemcpyDeviceToHost, stream_);
    error_ = cudaStreamSynchronize(stream_);
    return values;
  }
  static std::vector<int32_t> Expected() {
    std::vector<int32_t> values(kThreads);
    std::iota(values.rbegin(), values.rend(), 0);
    return values;
  }

  cudaStream_t stream_ = nullptr;
  int32_t* out_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};
INSTANTIATE_TEST_SUITE_P(Orders, Emulation, testing::Values("forward", "backward", "random:1"),
                         [](const auto& param) { return std::string(param.param).substr(0, 6); });

TEST_P(Emulation, ASoundKernelGivesWhatItShould) {
  EXPECT_EQ(Run(Fault::kNone), Expected());
  EXPECT_EQ(error_, cudaSuccess);
  EXPECT_EQ(TakeReport(), "");
}

TEST_P(Emulation, AMissingBarrierGivesWrongValues) {
  EXPECT_THAT(Run(Fault::kNoBarrier), Not(Expected()));
  EXPECT_THAT(Run(Fault::kNoWarpBarrier), Not(Expected()));
}

TEST_P(Emulation, ThreadsThatDoNotMeetAreNamed) {
  Run(Fault::kEarlyReturn);
  EXPECT_EQ(error_, cudaErrorLaunchFailure);
  std::string report = TakeReport();
  EXPECT_THAT(report, HasSubstr("ReverseKernel"));
  EXPECT_THAT(report, HasSubstr("block (0, 0, 0)"));
  EXPECT_THAT(report, HasSubstr("threads 0-47 wait at __syncthreads"));
  EXPECT_THAT(report, HasSubstr("threads 48-63 returned"));
  Run(Fault::kTwoBarriers);
  report = TakeReport();
  EXPECT_THAT(report, HasSubstr("threads 0-31 wait at __syncthreads"));
  EXPECT_THAT(report, HasSubstr("threads 32-63 wait at __syncthreads"));
  // The next launch is a new one.
  EXPECT_EQ(Run(Fault::kNone), Expected());
}

TEST_P(Emulation, LanesThatTakeNoPartAreNamed) {
  Run(Fault::kLaneReturned);
  EXPECT_EQ(error_, cudaErrorLaunchFailure);
  std::string report = TakeReport();
  EXPECT_THAT(report, HasSubstr("threads 7, 39 returned"));
  EXPECT_THAT(report, HasSubstr("wait at __shfl_xor_sync of lanes 0xffffffff"));
  Run(Fault::kLaneElsewhere);
  EXPECT_EQ(error_, cudaErrorLaunchFailure);
  EXPECT_THAT(TakeReport(), HasSubstr("__shfl_xor_sync"));
}

TEST_P(Emulation, WritesPastTheEndAreReported) {
  if (kSanitized) GTEST_SKIP() << "AddressSanitizer reports these";
  Run(Fault::kSharedOverrun);
  EXPECT_EQ(error_, cudaErrorLaunchFailure);
  EXPECT_THAT(TakeReport(), HasSubstr("0 bytes behind its 256 bytes of dynamic shared memory"));
  // A fresh one, whose end is not the end of a page.
  int32_t* const whole = out_;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&out_), kThreads * sizeof(int32_t) + 4), cudaSuccess);
  int32_t* const longer = out_;
  ASSERT_EQ(Reverse(stream_, Fault::kGlobalOverrun, longer + 1), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeReport(), HasSubstr("wrote outside of an allocation of 260 bytes, at byte 260"));
  EXPECT_EQ(cudaFree(longer), cudaSuccess);
  out_ = whole;
}

TEST_P(Emulation, AccessesThatNoDeviceAllowsEndTheProgram) {
  const char* where = kSanitized ? "AddressSanitizer"
                                 : "signal 11 in kernel .*ReverseKernel.*thread \\(33, 0, 0\\): byte 200256 "
                                   "of an allocation of 256 bytes";
  EXPECT_DEATH(Run(Fault::kFarOverrun), where);
  EXPECT_DEATH(Run(Fault::kMisaligned), "misaligned address");
  EXPECT_DEATH(Run(Fault::kIndex), "index [0-9]+ out of bounds");
}

TEST_P(Emulation, ThreadsRunInTheOrderThatWasAskedFor) {
  int32_t* order = nullptr;
  int32_t* place = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&order), 32 * sizeof(int32_t)), cudaSuccess);
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&place), sizeof(int32_t)), cudaSuccess);
  cudaMemsetAsync(place, 0, sizeof(int32_t), stream_);
  ASSERT_EQ(RecordOrder(stream_, order, place), cudaSuccess);
  std::vector<int32_t> got(32);
  cudaMemcpyAsync(got.data(), order, 32 * sizeof(int32_t), cudaMemcpyDeviceToHost, stream_);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  std::vector<int32_t> forward(32);
  std::iota(forward.begin(), forward.end(), 0);
  const std::vector<int32_t> backward(forward.rbegin(), forward.rend());
  const std::string name = GetParam();
  EXPECT_EQ(got == forward, name == "forward");
  EXPECT_EQ(got == backward, name == "backward");
  EXPECT_THAT(got, testing::UnorderedElementsAreArray(forward));
  cudaFree(order);
  cudaFree(place);
}

TEST_P(Emulation, TensorCoreTiles) {
  std::vector<uint16_t> a(256);
  std::vector<uint16_t> b(256);
  for (size_t i = 0; i < 256; ++i) {
    a[i] = FloatToBF16(static_cast<float>(static_cast<int>(i * 7 % 13) - 6));
    b[i] = FloatToBF16(static_cast<float>(static_cast<int>(i * 5 % 11) - 5));
  }
  uint16_t* device = nullptr;  // a, b, and a few to be misaligned by
  float* out = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&device), 1056), cudaSuccess);
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&out), 1024), cudaSuccess);
  cudaMemcpyAsync(device, a.data(), 512, cudaMemcpyHostToDevice, stream_);
  cudaMemcpyAsync(device + 256, b.data(), 512, cudaMemcpyHostToDevice, stream_);
  ASSERT_EQ(TileProduct(stream_, Fault::kNone, device, device + 256, out), cudaSuccess);
  std::vector<float> got(256);
  cudaMemcpyAsync(got.data(), out, 1024, cudaMemcpyDeviceToHost, stream_);
  ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  for (size_t i = 0; i < 256; ++i) {
    float sum = 0;
    for (size_t k = 0; k < 16; ++k) sum += BF16ToFloat(a[i / 16 * 16 + k]) * BF16ToFloat(b[k * 16 + i % 16]);
    EXPECT_EQ(got[i], sum) << i;
  }
  ASSERT_EQ(TileProduct(stream_, Fault::kMisalignedTile, device, device + 256, out), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeReport(), HasSubstr("not aligned to 32 bytes"));
  cudaFree(device);
  cudaFree(out);
}

class Runtime : public Emulation {};
INSTANTIATE_TEST_SUITE_P(Once, Runtime, testing::Values("forward"));

TEST_P(Runtime, LaunchesThatADeviceRefuses) {
  EXPECT_EQ(Empty(stream_, 1, 1024, 48 << 10), cudaSuccess);
  EXPECT_EQ(Empty(stream_, 1, 1025, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Empty(stream_, 0, 32, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(Empty(stream_, 1, 32, (48 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(AllowShared((163 << 10) + 1), cudaErrorInvalidValue);
  EXPECT_EQ(AllowShared(100 << 10), cudaSuccess);
  EXPECT_EQ(Empty(stream_, 1, 32, 100 << 10), cudaSuccess);
  EXPECT_EQ(Empty(nullptr, 1, 32, 0), cudaErrorInvalidResourceHandle);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
}

TEST_P(Runtime, AKernelGetsNoPointerOfTheHost) {
  if (kSanitized) GTEST_SKIP() << "the sanitizer's heap lies elsewhere";
  std::vector<int32_t> host(kThreads);
  EXPECT_EQ(Reverse(stream_, Fault::kNone, host.data()), cudaErrorIllegalAddress);
  EXPECT_THAT(TakeReport(), HasSubstr("byte 0 of its parameter 1 points to memory that is not the device's"));
}

TEST_P(Runtime, TheHostTouchesNoMemoryOfTheDevice) {
  EXPECT_DEATH(out_[1] = 1,
               kSanitized ? "AddressSanitizer" : "touches memory of the device: byte 4 of an allocation");
  EXPECT_DEATH(std::printf("%d", out_[0]), kSanitized ? "AddressSanitizer" : "touches memory of the device");
  EXPECT_EQ(Run(Fault::kNone), Expected());
  EXPECT_DEATH(out_[1] = 1, kSanitized ? "AddressSanitizer" : "touches memory of the device");
}

TEST_P(Runtime, WorkRunsAsLateAsItMay) {
  void* pinned_memory = nullptr;
  ASSERT_EQ(cudaHostAlloc(&pinned_memory, kThreads * sizeof(int32_t), cudaHostAllocDefault), cudaSuccess);
  auto* const pinned = static_cast<int32_t*>(pinned_memory);
  cudaEvent_t event = nullptr;
  ASSERT_EQ(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess) << "never recorded";

  int32_t pageable = 1;
  pinned[0] = 1;
  cudaMemcpyAsync(out_, &pageable, sizeof(int32_t), cudaMemcpyHostToDevice, stream_);
  cudaMemcpyAsync(out_ + 1, pinned, sizeof(int32_t), cudaMemcpyHostToDevice, stream_);
  pageable = 2;   // taken at the call
  pinned[0] = 2;  // not yet: a mistake
  cudaMemcpyAsync(pinned + 2, out_, 2 * sizeof(int32_t), cudaMemcpyDeviceToHost, stream_);
  cudaEventRecord(event, stream_);
  EXPECT_EQ(pinned[2], -1) << "nothing has been waited for";
  EXPECT_EQ(cudaEventQuery(event), cudaErrorNotReady);
  EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  EXPECT_EQ(pinned[2], 1);
  EXPECT_EQ(pinned[3], 2);

  // Another stream waits for what the event was when it was asked.
  cudaStream_t other = nullptr;
  ASSERT_EQ(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
  cudaMemsetAsync(out_, 0, sizeof(int32_t), stream_);
  cudaEventRecord(event, stream_);
  cudaMemsetAsync(out_, 1, sizeof(int32_t), stream_);
  cudaStreamWaitEvent(other, event, 0);
  cudaMemcpyAsync(pinned, out_, sizeof(int32_t), cudaMemcpyDeviceToHost, other);
  EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
  EXPECT_EQ(pinned[0], 0);
  cudaStreamDestroy(other);
  cudaEventDestroy(event);
  cudaFreeHost(pinned);
}

TEST_P(Runtime, CopiesStayWhereTheyBelong) {
  std::vector<int32_t> host(2 * kThreads);
  const size_t bytes = kThreads * sizeof(int32_t);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), host.data() + kThreads, bytes, cudaMemcpyHostToDevice, stream_),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(out_, out_, bytes, cudaMemcpyDeviceToHost, stream_), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpyAsync(out_, host.data(), bytes + 1, cudaMemcpyHostToDevice, stream_), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
  EXPECT_THAT(TakeReport(), HasSubstr("257 bytes that are not in one allocation"));
  cudaMemcpyAsync(out_ + 1, out_, bytes - 4, cudaMemcpyDeviceToDevice, stream_);
  EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorLaunchFailure);
  EXPECT_EQ(cudaFree(out_ + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(host.data()), size_t{1} << 50), cudaErrorMemoryAllocation);
}

}  // namespace
}  // namespace fulger::cuda_emulation
