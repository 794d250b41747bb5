#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <limits>
#include <thread>

#include "base/bfloat16.h"
#include "base/bounded_queue.h"
#include "base/clock.h"
#include "base/device_list.h"
#include "base/file.h"
#include "base/gate.h"
#include "base/human_bytes.h"
#include "base/markup.h"
#include "base/output_file.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;

TEST(Status, AnnotateKeepsTheCode) {
  const absl::Status s = Annotate(NotFound("tensor {}", "w1"), "layer 3");
  EXPECT_THAT(s, StatusIs(absl::StatusCode::kNotFound, "layer 3: tensor w1"));
  EXPECT_TRUE(Annotate(absl::OkStatus(), "x").ok());
}

TEST(Status, AssignOrReturnTwiceInOneScope) {
  auto f = [](int a, int b) -> absl::StatusOr<int> {
    auto half = [](int x) -> absl::StatusOr<int> {
      if (x % 2 != 0) return InvalidArgument("{} is odd", x);
      return x / 2;
    };
    ASSIGN_OR_RETURN(const int x, half(a));
    ASSIGN_OR_RETURN(const int y, half(b));
    return x + y;
  };
  EXPECT_EQ(*f(4, 6), 5);
  EXPECT_THAT(f(4, 7).status(), StatusIs(absl::StatusCode::kInvalidArgument, "7 is odd"));
}

TEST(BFloat16, RoundsToNearestEvenAndKeepsNaN) {
  EXPECT_EQ(FloatToBF16(1.0F), 0x3f80);
  EXPECT_EQ(FloatToBF16(std::bit_cast<float>(0x3f808000U)), 0x3f80);  // a tie goes to even
  EXPECT_EQ(FloatToBF16(std::bit_cast<float>(0x3f818000U)), 0x3f82);
  EXPECT_EQ(FloatToBF16(std::bit_cast<float>(0x3f808001U)), 0x3f81);
  EXPECT_TRUE(std::isnan(BF16ToFloat(FloatToBF16(std::bit_cast<float>(0x7f800001U)))));
  EXPECT_TRUE(std::isinf(BF16ToFloat(FloatToBF16(std::numeric_limits<float>::max()))));
}

TEST(BFloat16, EveryHalfFloatConverts) {
  for (uint32_t b = 0; b < 65536; ++b) {
    const double sign = (b & 0x8000U) != 0 ? -1.0 : 1.0;
    const int e = static_cast<int>((b >> 10) & 31U);
    const double m = b & 0x3ffU;
    const float got = F16ToFloat(static_cast<uint16_t>(b));
    if (e == 31) {
      EXPECT_EQ(std::isinf(got), m == 0);
      EXPECT_EQ(std::isnan(got), m != 0);
    } else {
      const double want = sign * (e == 0 ? std::ldexp(m, -24) : std::ldexp(1024.0 + m, e - 25));
      EXPECT_EQ(static_cast<double>(got), want) << b;
    }
  }
}

TEST(BoundedQueue, RefusesWhenFullAndDrainsAfterClose) {
  BoundedQueue<int> q(2);
  EXPECT_TRUE(q.Push(1));
  EXPECT_TRUE(q.TryPush(2));
  EXPECT_FALSE(q.TryPush(3));
  q.Close();
  EXPECT_FALSE(q.Push(4));
  EXPECT_EQ(q.Pop(), 1);
  EXPECT_EQ(q.Pop(), 2);
  EXPECT_EQ(q.Pop(), std::nullopt);
}

TEST(BoundedQueue, CloseWakesABlockedProducer) {
  BoundedQueue<int> q(1);
  ASSERT_TRUE(q.Push(1));
  std::thread producer([&] { EXPECT_FALSE(q.Push(2)); });
  q.Close();
  producer.join();
}

TEST(Gate, WaitReturnsWhenTheLastPassIsGone) {
  Gate gate;
  auto pass = gate.Enter();
  ASSERT_TRUE(pass.has_value());
  gate.Close();
  EXPECT_FALSE(gate.Enter().has_value());
  EXPECT_EQ(gate.inside(), 1);
  std::thread leaver([p = std::move(*pass)]() mutable { Gate::Pass gone(std::move(p)); });
  gate.Wait();
  EXPECT_EQ(gate.inside(), 0);
  leaver.join();
}

TEST(Sha256, KnownVectors) {
  EXPECT_EQ(Sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(File, NamesTheFileAndTheOffset) {
  const std::string path = testing::TempDir() + "/fulger_file_test";
  std::ofstream(path) << "hello";
  ASSERT_OK_AND_ASSIGN(File file, File::Open(path));
  EXPECT_EQ(file.size(), 5);
  std::string out(4, '\0');
  ASSERT_OK(file.ReadAt(1, std::as_writable_bytes(std::span(out))));
  EXPECT_EQ(out, "ello");
  EXPECT_THAT(
      file.ReadAt(2, std::as_writable_bytes(std::span(out))),
      StatusIs(absl::StatusCode::kDataLoss, path + ": expected 4 bytes at offset 2, the file ends at 5"));
  EXPECT_THAT(ReadFile(path, 3).status(),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("at most 3")));
  EXPECT_THAT(File::Open(path + ".none").status(), StatusIs(absl::StatusCode::kNotFound, HasSubstr(".none")));
  EXPECT_THAT(File::Open(testing::TempDir()).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("regular")));
  std::filesystem::remove(path);
}

TEST(File, ANewOneIsWholeOrNotThere) {
  const std::string path = testing::TempDir() + "/fulger_new_file_test";
  std::filesystem::remove(path);
  ASSERT_OK(WriteFileDurably(path, "first"));
  ASSERT_OK(WriteFileDurably(path, "second"));
  ASSERT_OK_AND_ASSIGN(const std::string content, ReadFile(path));
  EXPECT_EQ(content, "second");
  EXPECT_EQ(NewFile::Create(path).status().code(), absl::StatusCode::kAlreadyExists);
  EXPECT_THAT(WriteFileDurably("/nowhere/file", "x"),
              StatusIs(absl::StatusCode::kNotFound, testing::HasSubstr("/nowhere/file")));

  // As a full disk.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 10, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const absl::Status full = WriteFileDurably(path, "more than ten bytes");
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted, testing::HasSubstr("write at 10")));
  ASSERT_OK_AND_ASSIGN(const std::string same, ReadFile(path));
  EXPECT_EQ(same, "second");
  std::filesystem::remove(path);
}

TEST(EscapeMarkup, NothingStaysAMark) {
  EXPECT_EQ(EscapeMarkup("<a b=\"c\">d & 'e'</a>"), "&lt;a b=&quot;c&quot;&gt;d &amp; &#39;e&#39;&lt;/a&gt;");
  EXPECT_EQ(EscapeMarkup("plain"), "plain");
}

TEST(DeviceList, GivesEachRankItsDevice) {
  const auto at = [](const char* spec, int place, int sharing) -> std::string {
    const auto list = ParseDeviceList(spec);
    if (!list.ok()) return Message(list.status());
    const auto device = DeviceAt(*list, place, sharing);
    return device.ok() ? *device : Message(device.status());
  };
  EXPECT_EQ(at("cpu", 5, 1), "cpu");
  EXPECT_EQ(at("cuda", 3, 1), "cuda:3");
  EXPECT_EQ(at("cuda", 3, 2), "cuda:1");
  EXPECT_EQ(at("cuda:6", 0, 1), "cuda:6");
  EXPECT_EQ(at("cuda:4,2", 1, 1), "cuda:2");
  EXPECT_EQ(at("cuda:4,2", 3, 2), "cuda:2");
  EXPECT_THAT(at("cuda:4,2", 2, 1), HasSubstr("names 2 GPUs, room for 2 ranks"));
  EXPECT_THAT(at("cuda:4,2", 4, 2), HasSubstr("room for 4 ranks"));
  for (const char* bad :
       {"", "gpu", "cuda:", "cuda:a", "cuda:1,", "cuda:,1", "cuda:-1", "cuda:1.5", "cuda:1,x"}) {
    EXPECT_THAT(at(bad, 0, 1), HasSubstr("--device " + std::string(bad) + ": expected")) << bad;
  }
}

TEST(HumanBytes, ThreeDigits) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1536), "1.50 KiB");
  EXPECT_EQ(HumanBytes(int64_t{912874438656}), "850.18 GiB");
}

TEST(ManualClock, MovesOnlyWhenTold) {
  ManualClock clock;
  const TimePoint t0 = clock.Now();
  clock.Advance(std::chrono::seconds(2));
  EXPECT_DOUBLE_EQ(Seconds(clock.Now() - t0), 2.0);
}

TEST(ThreadPool, RunsEverythingBeforeItEnds) {
  std::atomic<int> done{0};
  {
    ThreadPool pool(2, 64);
    for (int i = 0; i < 50; ++i) ASSERT_TRUE(pool.TryRun([&] { ++done; }));
  }
  EXPECT_EQ(done, 50);
}

}  // namespace
}  // namespace fulger
