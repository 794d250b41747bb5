// Ranks of one node read a checkpoint together: what several of them read comes from the disk once, and from
// the page cache then. Two processes load from files that are in no cache, and the kernel counts what it read
// from the disk for each (/proc/self/io).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "tests/golden/model/golden.h"
#include "tests/support/memory_device.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/status_matchers.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

namespace fs = std::filesystem;
using testing_support::MemoryDevice;
using testing_support::TempFolder;

// Of this process, from the disk.
int64_t ReadFromDisk() {
  std::ifstream io("/proc/self/io");
  std::string name;
  for (int64_t value = 0; io >> name >> value;) {
    if (name == "read_bytes:") return value;
  }
  return 0;
}

int64_t BytesOf(const std::string& dir) {
  int64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(dir)) {
    if (entry.path().extension() == ".safetensors") bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

// On the disk, and no longer in memory.
void ForgetFiles(const std::string& dir) {
  for (const auto& entry : fs::directory_iterator(dir)) {
    const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(::fsync(fd), 0);
    EXPECT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
    ::close(fd);
  }
}

struct Reads {
  int64_t disk = 0;   // by the process, of the kernel's count
  int64_t files = 0;  // asked for
  bool ok = false;
};

Reads LoadRank(const std::string& dir, const Plan& plan, int rank) {
  Reads reads;
  const auto config = LoadModelConfig(dir);
  const int64_t before = ReadFromDisk();
  const auto source = OpenWeights(dir, *config, plan, rank);
  if (!source.ok()) return reads;
  MemoryDevice device(true);
  LoadStats stats;
  reads.ok =
      LoadWeights(**source, plan.ranks[static_cast<size_t>(rank)], device, {.threads = 2}, &stats).ok();
  reads.disk = ReadFromDisk() - before;
  reads.files = stats.bytes_read;
  return reads;
}

// Those ranks at once, each a process. An ended process has closed its files, so they can be forgotten.
std::vector<Reads> LoadTogether(const std::string& dir, const Plan& plan, const std::vector<int>& ranks) {
  std::vector<Reads> all(ranks.size());
  std::vector<std::pair<pid_t, int>> children;
  for (const int rank : ranks) {
    int ends[2];
    FULGER_CHECK(::pipe(ends) == 0);
    const pid_t pid = ::fork();
    if (pid == 0) {
      const Reads reads = LoadRank(dir, plan, rank);
      const bool written = ::write(ends[1], &reads, sizeof(reads)) == sizeof(reads);
      ::_exit(written ? 0 : 1);
    }
    ::close(ends[1]);
    children.emplace_back(pid, ends[0]);
  }
  for (size_t r = 0; r < children.size(); ++r) {
    EXPECT_EQ(::read(children[r].second, &all[r], sizeof(Reads)), static_cast<ssize_t>(sizeof(Reads)));
    ::close(children[r].second);
    ::waitpid(children[r].first, nullptr, 0);
    EXPECT_TRUE(all[r].ok);
  }
  return all;
}

TEST(ReadOnce, WhatRanksOfANodeShareComesFromTheDiskOnce) {
  TempFolder folder("read_once_test");
  const std::string dir = folder.File("g2");
  fs::copy(golden::CheckpointFolder("g2"), dir, fs::copy_options::recursive);
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(dir));
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, {.tp = 2}));
  const int64_t size = BytesOf(dir);
  ForgetFiles(dir);
  const std::vector<Reads> together = LoadTogether(dir, plan, {0, 1});
  const int64_t files = together[0].files + together[1].files, disk = together[0].disk + together[1].disk;
  std::printf("%lld bytes of files; the ranks read %lld and %lld, of that from the disk %lld and %lld\n",
              static_cast<long long>(size), static_cast<long long>(together[0].files),
              static_cast<long long>(together[1].files), static_cast<long long>(together[0].disk),
              static_cast<long long>(together[1].disk));
  if (disk == 0) GTEST_SKIP() << "this file system's reads are not counted (memory, or a layer over one)";
  // The tower, routers and norms, and what lies between the columns of cut rows.
  EXPECT_GT(files, size * 5 / 4);
  EXPECT_LE(disk, size + size / 50) << "read from the disk twice";

  // One after the other, with nothing in the cache: what the count says where it is read twice.
  int64_t apart = 0;
  for (const int rank : {0, 1}) {
    ForgetFiles(dir);
    apart += LoadTogether(dir, plan, {rank})[0].disk;
  }
  EXPECT_GT(apart, size * 5 / 4);
}

}  // namespace
}  // namespace fulger
