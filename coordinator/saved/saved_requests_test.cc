// Folders of saved requests: given out once, removed when all of it goes on, told and left alone when
// damaged.
#include "coordinator/saved/saved_requests.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/log.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

namespace fs = std::filesystem;
// Every damaged manifest is told.
[[maybe_unused]] const bool kQuiet = (InitLogging("saved_requests_test", LogLevel::kError), true);

using testing::HasSubstr;
using testing::SizeIs;

v1::SavedRequest Request(const std::string& identity, uint64_t seed, bool state = true) {
  v1::SavedRequest request;
  request.set_identity(identity);
  request.set_seed(seed);
  request.add_tokens()->set_id(5);
  if (state) request.mutable_state()->set_position(7);
  return request;
}

class SavedRequestsTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ =
        testing::TempDir() + "fulger_saved_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(dir_);
  }
  void TearDown() override { fs::remove_all(dir_); }

  SavedRequestsOptions Options() {
    return {.dir = dir_,
            .model =
                {.fingerprint = "f", .plan_hash = "p", .layout = "tp 2", .block_size = 16, .weights = "keep"},
            .keep_seconds = 100,
            .now = [this] { return now_; },
            .probe_bytes = 4096};
  }
  std::unique_ptr<SavedRequests> Open() {
    auto saved = SavedRequests::Open(Options());
    EXPECT_OK(saved.status());
    return saved.ok() ? *std::move(saved) : nullptr;
  }
  // A folder with two requests and a rank's file, as of another process.
  std::string Save() {
    const auto saved = Open();
    auto folder = saved->NewFolder();
    EXPECT_OK(folder.status());
    std::ofstream(*folder + "/replica-0-rank-0.state") << "bytes";
    EXPECT_OK(saved->Commit(*folder, {Request("a", 1), Request("b", 2), Request("b", 3)}));
    ++now_;  // the next folder has another name
    return *folder;
  }

  std::string dir_;
  int64_t now_ = 1'000'000;
};

TEST_F(SavedRequestsTest, EachIsGivenOutOnceAndTheFolderGoesWithTheLast) {
  const std::string folder = Save();
  const auto saved = Open();
  EXPECT_GT(saved->bytes_per_second(), 0);
  EXPECT_EQ(saved->size(), 3);
  EXPECT_EQ(saved->Take("c"), nullptr);
  auto a = saved->Take("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->seed(), 1u);
  EXPECT_EQ(a->state().folder(), folder);
  EXPECT_EQ(saved->Take("a"), nullptr);
  auto b = saved->Take("b"), c = saved->Take("b");
  ASSERT_NE(b, nullptr);
  ASSERT_NE(c, nullptr);
  EXPECT_NE(b->seed(), c->seed()) << "two alike";
  EXPECT_NE(a->state().id(), b->state().id());
  const std::shared_ptr<const v1::SavedState> state(a, &a->state());
  a.reset();
  saved->PutBack(std::move(c));
  b.reset();
  EXPECT_TRUE(fs::exists(folder)) << "one is left";
  c = saved->Take("b");
  c.reset();
  EXPECT_TRUE(fs::exists(folder)) << "a state is still to be read";
  const_cast<std::shared_ptr<const v1::SavedState>&>(state).reset();
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(SavedRequestsTest, WhatIsNotTakenStaysForTheNextAndGoesInTheEnd) {
  const std::string folder = Save();
  EXPECT_NE(Open()->Take("a"), nullptr);
  EXPECT_EQ(Open()->size(), 3) << "that server was killed before it said what became of it";
  now_ += 200;
  EXPECT_EQ(Open()->size(), 0);
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(SavedRequestsTest, AnotherLayoutKeepsTheTokens) {
  Save();
  for (const char* what : {"plan", "layout", "blocks", "weights"}) {
    SavedRequestsOptions options = Options();
    if (what == std::string("plan")) options.model.plan_hash = "q";
    if (what == std::string("layout")) options.model.layout = "tp 2, experts int8";
    if (what == std::string("blocks")) options.model.block_size = 32;
    if (what == std::string("weights")) options.model.weights = "f32";
    ASSERT_OK_AND_ASSIGN(const auto saved, SavedRequests::Open(options));
    ASSERT_EQ(saved->size(), 3) << what;
    const auto a = saved->Take("a");
    EXPECT_FALSE(a->has_state()) << what;
    EXPECT_EQ(a->tokens_size(), 1) << what;
  }
}

TEST_F(SavedRequestsTest, AnotherCheckpointIsLeftAlone) {
  const std::string folder = Save();
  SavedRequestsOptions options = Options();
  options.model.fingerprint = "g";
  ASSERT_OK_AND_ASSIGN(const auto saved, SavedRequests::Open(options));
  EXPECT_EQ(saved->size(), 0);
  EXPECT_TRUE(fs::exists(folder));
}

TEST_F(SavedRequestsTest, EveryDamagedByteOfTheManifestIsNoticed) {
  const std::string folder = Save(), path = folder + "/manifest";
  ASSERT_OK_AND_ASSIGN(const std::string good, ReadFile(path));
  for (size_t i = 0; i < good.size(); i += 11) {
    std::string bad = good;
    bad[i] ^= 1;
    std::ofstream(path, std::ios::binary) << bad;
    EXPECT_EQ(Open()->size(), 0) << i;
    std::ofstream(path, std::ios::binary) << good.substr(0, i);
    EXPECT_EQ(Open()->size(), 0) << i;
  }
  std::ofstream(path, std::ios::binary) << good;
  EXPECT_EQ(Open()->size(), 3);
}

TEST_F(SavedRequestsTest, AServerKilledWhileSavingLeavesNothingToGoOnWith) {
  const auto saved = Open();
  ASSERT_OK_AND_ASSIGN(const std::string folder, saved->NewFolder());
  std::ofstream(folder + "/replica-0-rank-0.state") << "bytes";
  EXPECT_EQ(Open()->size(), 0);
  EXPECT_TRUE(fs::exists(folder)) << "it may be saving";
  fs::last_write_time(folder, fs::file_time_type::clock::now() - std::chrono::hours(2));
  EXPECT_EQ(Open()->size(), 0);
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(SavedRequestsTest, NothingToSaveLeavesNoFolder) {
  const auto saved = Open();
  ASSERT_OK_AND_ASSIGN(const std::string folder, saved->NewFolder());
  EXPECT_OK(saved->Commit(folder, {}));
  EXPECT_FALSE(fs::exists(folder));
}

TEST_F(SavedRequestsTest, AFullDiskIsTold) {
  const auto saved = Open();
  ASSERT_OK_AND_ASSIGN(const std::string folder, saved->NewFolder());
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = 50, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const absl::Status full = saved->Commit(folder, {Request("a", 1)});
  const absl::Status start = SavedRequests::Open(Options()).status();
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(full, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("manifest")));
  EXPECT_FALSE(fs::exists(folder));
  EXPECT_THAT(start, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("cannot be written")));
}

}  // namespace
}  // namespace fulger
