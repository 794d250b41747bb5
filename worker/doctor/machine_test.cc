// Beside other programs' answers about the same machine.
#include "worker/doctor/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include "base/run_list.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;

std::string OutputOf(const std::string& command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command.c_str(), "r"), &::pclose);
  char line[512] = {};
  if (pipe == nullptr || std::fgets(line, sizeof(line), pipe.get()) == nullptr) return {};
  std::string text = line;
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

TEST(Machine, IsWhatOtherProgramsSay) {
  const v1::NodeFacts facts = LookAtNode("127.0.0.1");
  EXPECT_EQ(facts.kernel(), OutputOf("uname -sr"));
  EXPECT_EQ(std::to_string(facts.cores()), OutputOf("getconf _NPROCESSORS_ONLN"));
  EXPECT_EQ(std::to_string(AllowedCores().size()), OutputOf("nproc"));
  EXPECT_EQ(std::to_string(facts.memory_total() / 1024),
            OutputOf("awk '/MemTotal/ {print $2}' /proc/meminfo"));
  EXPECT_GT(facts.memory_available(), 0);
  const std::string files = OutputOf("sh -c 'ulimit -n'"), locked = OutputOf("bash -c 'ulimit -l'");
  EXPECT_EQ(facts.files_limit() < 0 ? "unlimited" : std::to_string(facts.files_limit()), files);
  EXPECT_EQ(facts.locked_limit() < 0 ? "unlimited" : std::to_string(facts.locked_limit() / 1024), locked);
  EXPECT_EQ(std::to_string(facts.shared_total() / 1024),
            OutputOf("df --output=size -k /dev/shm | tail -n 1 | tr -d ' '"));
  EXPECT_EQ(facts.network().name(), "lo");
  EXPECT_EQ(std::to_string(facts.network().mtu()), OutputOf("cat /sys/class/net/lo/mtu"));
  EXPECT_EQ(facts.mpirun_version(), OutputOf("mpirun --version 2>/dev/null"));
}

TEST(Machine, AMountIsTheDeepestThatHoldsThePath) {
  EXPECT_EQ(MountOf("/proc/self").type, "proc");
  EXPECT_EQ(MountOf("/proc/self").point, "/proc");
  EXPECT_EQ(MountOf("/no such folder").point, "/");
  EXPECT_EQ(MountOf("/procession").point, "/") << "no part of a name";
  EXPECT_EQ(MountOf("/dev/shm/x").type, OutputOf("findmnt -n -o FSTYPE -T /dev/shm"));
}

TEST(Machine, ALibraryIsFoundByItsName) {
  EXPECT_THAT(LoadedLibrary("libc.so"), HasSubstr("/libc.so"));
  EXPECT_EQ(LoadedLibrary("libnobody"), "");
}

TEST(RunList, JoinsRuns) {
  EXPECT_EQ(RunList({}), "");
  EXPECT_EQ(RunList(std::vector<int>{5}), "5");
  EXPECT_EQ(RunList(std::vector<int>{0, 1, 2, 3, 8}), "0-3,8");
  EXPECT_EQ(RunList(std::vector<int>{0, 2, 3}), "0,2-3");
}

}  // namespace
}  // namespace fulger
