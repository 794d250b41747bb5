#include "worker/doctor/checkpoint_probe.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "model/checkpoint/checkpoint.h"
#include "tests/golden/model/golden.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using testing_support::Distinct;
using testing_support::TempFolder;
using testing_support::WriteSharded;

constexpr auto kDeadline = std::chrono::milliseconds(20000);

class Probe : public testing::Test {
 protected:
  v1::CheckpointFiles Run(std::chrono::milliseconds deadline = kDeadline, double seconds = 5) {
    return ProbeCheckpoint({.dir = folder_.path(), .read_seconds = seconds}, deadline);
  }
  // A whole one.
  void WriteGolden() {
    auto golden = golden::ModelCase::Load("g0_text");
    ASSERT_OK(golden.status());
    ASSERT_OK(WriteGoldenCheckpoint(*golden, folder_.path()));
  }
  // config.json is of another model: that is one problem.
  void WriteShards() {
    WriteGolden();
    std::filesystem::remove(folder_.File("model.safetensors"));
    WriteSharded(folder_.path(),
                 {Distinct("a", {64, 64}, DType::kF32), Distinct("b", {64, 64}, DType::kF32),
                  Distinct("c", {64, 64}, DType::kF32)},
                 3);
  }

  TempFolder folder_{"checkpoint_probe"};
};

TEST_F(Probe, AWholeCheckpointIsReadOnce) {
  WriteGolden();
  const v1::CheckpointFiles found = Run();
  EXPECT_THAT(found.problems(), IsEmpty());
  EXPECT_EQ(found.hung(), "");
  EXPECT_EQ(found.files(), 1);
  const auto bytes = static_cast<int64_t>(std::filesystem::file_size(folder_.File("model.safetensors")));
  EXPECT_EQ(found.bytes(), bytes);
  EXPECT_EQ(found.bytes_read(), bytes);
  EXPECT_GT(found.seconds(), 0);
  EXPECT_NE(found.file_system(), "");
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(folder_.path()));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(folder_.path(), config));
  EXPECT_EQ(found.fingerprint(), checkpoint.Fingerprint());
}

TEST_F(Probe, ATruncatedShardIsNamedAndTheOthersAreRead) {
  WriteShards();
  const std::string path = folder_.File("model-00002-of-00003.safetensors");
  const auto size = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, size - 100);
  const v1::CheckpointFiles found = Run();
  ASSERT_THAT(found.problems(), SizeIs(1));
  EXPECT_THAT(found.problems(0), AllOf(HasSubstr(path), HasSubstr("16284")));
  EXPECT_EQ(found.fingerprint(), "");
  EXPECT_EQ(found.files(), 2);
  EXPECT_EQ(found.bytes_read(), found.bytes());
}

TEST_F(Probe, AMissingShardIsNamed) {
  WriteShards();
  std::filesystem::remove(folder_.File("model-00003-of-00003.safetensors"));
  EXPECT_THAT(Run().problems(), ElementsAre(HasSubstr("model-00003-of-00003.safetensors")));
}

TEST_F(Probe, NoFolderAtAll) {
  const v1::CheckpointFiles found = ProbeCheckpoint({.dir = folder_.path() + "/nothing"}, kDeadline);
  EXPECT_THAT(found.problems(), ElementsAre(HasSubstr("config.json"), HasSubstr("nothing")));
  EXPECT_EQ(found.bytes_read(), 0);
}

// Opening a pipe that nobody writes to waits for ever, as a file on a lost server does.
TEST_F(Probe, AFileThatHangsIsNamedAtTheDeadline) {
  WriteShards();
  const std::string path = folder_.File("model-00002-of-00003.safetensors");
  std::filesystem::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const v1::CheckpointFiles found = Run(std::chrono::milliseconds(300));
  EXPECT_THAT(found.hung(), AllOf(HasSubstr("opening " + path), HasSubstr("no answer")));
  EXPECT_EQ(found.files(), 1);
  const int writer = ::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC);  // lets the thread go
  ASSERT_GE(writer, 0);
  ::close(writer);
}

TEST_F(Probe, WithoutTimeNothingIsRead) {
  WriteGolden();
  const v1::CheckpointFiles found = Run(kDeadline, 0);
  EXPECT_EQ(found.seconds(), 0);
  EXPECT_EQ(found.bytes_read(), 0);
  EXPECT_NE(found.fingerprint(), "");
}

}  // namespace
}  // namespace fulger
