#include "kernels/suite/op_suite.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;

TEST_P(OpSuite, CopiesAndZeroes) {
  Device& d = device();
  std::vector<uint8_t> in(1000);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint8_t>(Pick(0, 255));
  ASSERT_OK_AND_ASSIGN(const Buffer a, d.Allocate(in.size()));
  ASSERT_OK_AND_ASSIGN(const Buffer b, d.Allocate(in.size()));
  EXPECT_EQ(reinterpret_cast<uintptr_t>(a.data()) % 64, 0);
  ASSERT_OK(d.CopyToDevice(stream(), in.data(), a.data(), in.size()));
  ASSERT_OK(d.Zero(stream(), static_cast<char*>(a.data()) + 100, 50));
  ASSERT_OK(d.Copy(stream(), a.data(), b.data(), in.size()));
  std::vector<uint8_t> out(in.size());
  ASSERT_OK(d.CopyToHost(stream(), b.data(), out.data(), out.size()));
  ASSERT_OK(stream().Synchronize());
  std::fill(in.begin() + 100, in.begin() + 150, uint8_t{0});
  EXPECT_EQ(out, in);
  ASSERT_OK_AND_ASSIGN(const Buffer none, d.Allocate(0));
  EXPECT_EQ(none.bytes(), 0);
}

TEST_P(OpSuite, AllocationTooLargeSaysHowMuch) {
  const size_t bytes = size_t{1} << 50;
  EXPECT_THAT(device().Allocate(bytes).status(),
              StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("1125899906842624 bytes")));
}

TEST_P(OpSuite, ArenaAlignsRewindsAndRefuses) {
  ASSERT_OK_AND_ASSIGN(Arena arena, Arena::Make(device(), 1024));
  ASSERT_OK_AND_ASSIGN(const MutTensorView a, arena.Allocate(DType::kBF16, {3, 5}));
  EXPECT_EQ(a.bytes(), 30);
  ASSERT_OK_AND_ASSIGN(const MutTensorView b, arena.Allocate(DType::kF32, {10}));
  EXPECT_EQ(static_cast<const char*>(b.raw()) - static_cast<const char*>(a.raw()), 64);
  const size_t mark = arena.used();
  EXPECT_EQ(mark, 104);
  ASSERT_OK(arena.Allocate(DType::kF32, {200}).status());
  EXPECT_THAT(arena.Allocate(DType::kF32, {64}).status(),
              StatusIs(absl::StatusCode::kInternal, HasSubstr("256 bytes, 64 of 1024 are left")));
  arena.Rewind(mark);
  EXPECT_OK(arena.Allocate(DType::kF32, {64}).status());
  arena.Reset();
  EXPECT_EQ(arena.used(), 0);
  EXPECT_EQ(arena.high_water(), 928);
}

TEST(MakeDevice, NamesWhatItCannotMake) {
  EXPECT_THAT(MakeDevice("gpu").status(),
              StatusIs(absl::StatusCode::kInvalidArgument, "device \"gpu\": expected cpu, cuda or cuda:N"));
  EXPECT_THAT(MakeDevice("cpu", {.threads = -1}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("-1")));
  for (const char* spec : {"cuda:", "cuda:x", "cuda:-1", "cuda:1.5", "cudax"}) {
    EXPECT_THAT(MakeDevice(spec).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("expected cpu, cuda or cuda:N")));
  }
  // No build and no machine has this one.
  const absl::Status absent = MakeDevice("cuda:4711").status();
  EXPECT_THAT(absent.code(),
              testing::AnyOf(absl::StatusCode::kUnavailable, absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(Message(absent),
              testing::AllOf(HasSubstr("device cuda:4711: "),
                             testing::AnyOf(HasSubstr("no CUDA backend"), HasSubstr("nvidia-smi"))));
  EXPECT_THAT(MakeDevice("cpu", {.kernels = "sse9"}).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       "cpu: kernels \"sse9\": expected auto, avx512, avx2 or portable"));
}

TEST(MakeDevice, DescribesWhatRuns) {
  ASSERT_OK_AND_ASSIGN(const auto device, MakeDevice("cpu", {.threads = 3, .kernels = "portable"}));
  EXPECT_EQ(device->name(), "cpu");
  EXPECT_THAT(device->Describe(), testing::AllOf(HasSubstr("3 threads"), HasSubstr("portable kernels")));
  EXPECT_EQ(device->Arithmetic(), "cpu portable");
  EXPECT_TRUE(device->host_accessible());
}

}  // namespace
}  // namespace fulger
