#include "coordinator/jobs/job_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>
#include <fstream>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class JobStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ =
        testing::TempDir() + "fulger_store_" + testing::UnitTest::GetInstance()->current_test_info()->name();
    TearDown();
  }
  void TearDown() override {
    for (const char* suffix : {"", "-wal", "-shm"}) std::filesystem::remove(path_ + suffix);
  }
  void Sql(const char* sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, sql, nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  }
  std::string path_;
};

TEST_F(JobStoreTest, WhatIsWrittenIsThereAfterwards) {
  const std::string bytes("a\0b\n\xff", 5);
  {
    ASSERT_OK_AND_ASSIGN(const auto store, JobStore::Open(path_));
    ASSERT_OK(
        store->AddFile({.id = "f", .owner = "o", .name = "n", .purpose = "batch", .created = 7}, bytes));
    ASSERT_OK(store->AddBatch({.id = "b", .owner = "o", .endpoint = "/e", .input_file = "f", .created = 8},
                              {{.batch = "b", .number = 1, .custom_id = "x", .body = "{}"},
                               {.batch = "b", .number = 3, .custom_id = "y", .body = "{1}"}}));
    ASSERT_OK(store->FinishLine("b", 1, true, "first"));
    ASSERT_OK(store->FinishLine("b", 1, false, "second"));  // once
  }
  ASSERT_OK_AND_ASSIGN(const auto store, JobStore::Open(path_));
  ASSERT_OK_AND_ASSIGN(const StoredFile file, store->File("f", "o"));
  EXPECT_EQ(file.bytes, 5);
  EXPECT_EQ(file.created, 7);
  ASSERT_OK_AND_ASSIGN(const std::string content, store->FileContent("f", "o"));
  EXPECT_EQ(content, bytes);
  EXPECT_THAT(store->File("f", "other").status(), StatusIs(StatusCode::kNotFound, HasSubstr("\"f\"")));
  ASSERT_OK_AND_ASSIGN(const auto open, store->OpenBatches());
  ASSERT_EQ(open.size(), 1u);
  EXPECT_EQ(open[0].total, 2);
  EXPECT_EQ(open[0].completed, 1);
  ASSERT_OK_AND_ASSIGN(const auto lines, store->OpenLines("b", 0, 10));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0].number, 3);
  EXPECT_EQ(lines[0].body, "{1}");
  ASSERT_OK(store->FinishLine("b", 3, false, "bad"));
  ASSERT_OK(store->EndBatch(open[0], "completed", "out", "err", 9));
  ASSERT_OK(store->EndBatch(open[0], "cancelled", "out2", "err2", 10));  // it has its end
  ASSERT_OK_AND_ASSIGN(const Batch ended, store->FindBatch("b", "o"));
  EXPECT_EQ(ended.status, "completed");
  EXPECT_EQ(ended.output_file, "out");
  EXPECT_EQ(ended.ended, 9);
  ASSERT_OK_AND_ASSIGN(const std::string output, store->FileContent("out", "o"));
  EXPECT_EQ(output, "first\n");
  ASSERT_OK_AND_ASSIGN(const std::string errors, store->FileContent("err", "o"));
  EXPECT_EQ(errors, "bad\n");
}

TEST_F(JobStoreTest, ABatchComesWithAllItsLinesOrNotAtAll) {
  ASSERT_OK_AND_ASSIGN(const auto store, JobStore::Open(path_));
  EXPECT_FALSE(store->AddBatch({.id = "b"}, {{.number = 1}, {.number = 1}}).ok());
  EXPECT_THAT(store->FindBatch("b", "").status(), StatusIs(StatusCode::kNotFound, HasSubstr("\"b\"")));
}

TEST_F(JobStoreTest, ANewerVersionIsRefused) {
  ASSERT_OK(JobStore::Open(path_).status());
  Sql("PRAGMA user_version = 2");
  EXPECT_THAT(JobStore::Open(path_).status(),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("version 2, this program knows up to 1")));
}

TEST_F(JobStoreTest, OtherFilesAreRefused) {
  std::ofstream(path_) << std::string(5000, 'x');
  EXPECT_THAT(JobStore::Open(path_).status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("not a database")));
  TearDown();
  Sql("CREATE TABLE theirs (x)");
  EXPECT_THAT(JobStore::Open(path_).status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("another program")));
  EXPECT_THAT(JobStore::Open("/nowhere/jobs.db").status(),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("/nowhere/jobs.db")));
}

TEST_F(JobStoreTest, OneProcessHasIt) {
  ASSERT_OK_AND_ASSIGN(const auto store, JobStore::Open(path_));
  EXPECT_THAT(JobStore::Open(path_).status(),
              StatusIs(StatusCode::kFailedPrecondition, HasSubstr("another process")));
}

}  // namespace
}  // namespace fulger
