#include "coordinator/cluster/launcher.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <future>
#include <string>

#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(MakeLaunchCommand, RanksOnOtherHostsAreMpiruns) {
  LaunchSpec spec{.worker_binary = "w", .control_address = "h1:9000", .ranks = 3, .mpi = true};
  spec.hosts = "h1,h2:2";
  const LaunchCommand command = MakeLaunchCommands(spec, /*as_root=*/false, /*cores=*/6).at(0);
  EXPECT_THAT(command.arguments,
              ElementsAre("mpirun", "-np", "3", "--oversubscribe", "--bind-to", "none", "--mca",
                          "mpi_yield_when_idle", "1", "--host", "h1,h2:2", "w", "--coordinator", "h1:9000",
                          "--device", "cpu", "--threads", "2"));
}

TEST(MakeLaunchCommand, OneRankIsADirectChild) {
  const LaunchSpec spec{.worker_binary = "/opt/fulger-worker", .control_address = "unix:/tmp/x/control"};
  const std::vector<LaunchCommand> commands = MakeLaunchCommands(spec, /*as_root=*/true, /*cores=*/6);
  ASSERT_EQ(commands.size(), 1);
  const LaunchCommand& command = commands[0];
  EXPECT_THAT(command.arguments, ElementsAre("/opt/fulger-worker", "--coordinator", "unix:/tmp/x/control",
                                             "--device", "cpu", "--threads", "6"));
  EXPECT_THAT(command.environment, IsEmpty());
}

TEST(MakeLaunchCommand, SeveralCpuRanksAreOneMpirun) {
  LaunchSpec spec{.worker_binary = "/opt/fulger-worker", .control_address = "127.0.0.1:4000"};
  spec.ranks = 5;
  spec.mpi = true;
  spec.devices.assign(5, "cpu");
  spec.extra_arguments = {"--kernels", "portable"};
  LaunchCommand command = MakeLaunchCommands(spec, /*as_root=*/false, /*cores=*/16).at(0);
  EXPECT_THAT(command.arguments,
              ElementsAre("mpirun", "-np", "5", "--oversubscribe", "--bind-to", "none", "--mca",
                          "mpi_yield_when_idle", "1", "/opt/fulger-worker", "--coordinator", "127.0.0.1:4000",
                          "--device", "cpu", "--threads", "3", "--kernels", "portable"));
  EXPECT_THAT(command.environment, IsEmpty());

  command = MakeLaunchCommands(spec, /*as_root=*/true, /*cores=*/2).at(0);
  EXPECT_THAT(command.environment,
              ElementsAre("OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"));
  EXPECT_EQ(command.arguments[15], "1") << "more ranks than cores: one thread each";
}

TEST(MakeLaunchCommand, ThreadsCanBeSaid) {
  LaunchSpec spec{.worker_binary = "w", .control_address = "a"};
  spec.threads_per_rank = 7;
  EXPECT_EQ(MakeLaunchCommands(spec, false, 2).at(0).arguments.back(), "7");
}

TEST(MakeLaunchCommand, GpuRanksAreChildrenWithADeviceEach) {
  LaunchSpec spec{.worker_binary = "w", .control_address = "127.0.0.1:4000"};
  spec.ranks = 3;
  spec.devices = {"cuda:4", "cuda:4", "cuda:2"};
  spec.ranks_per_device = 2;
  const std::vector<LaunchCommand> commands = MakeLaunchCommands(spec, /*as_root=*/true, /*cores=*/6);
  ASSERT_EQ(commands.size(), 3);
  EXPECT_THAT(commands[1].arguments, ElementsAre("w", "--coordinator", "127.0.0.1:4000", "--device", "cuda:4",
                                                 "--threads", "2", "--ranks-per-device", "2", "--rank", "1"));
  EXPECT_THAT(commands[1].environment, IsEmpty()) << "no mpirun";
  EXPECT_EQ(commands[2].arguments[4], "cuda:2");
  spec.mpi = true;
  const std::vector<LaunchCommand> mpi = MakeLaunchCommands(spec, /*as_root=*/false, /*cores=*/6);
  ASSERT_EQ(mpi.size(), 1);
  EXPECT_EQ(mpi[0].arguments[0], "mpirun");
  EXPECT_EQ(mpi[0].arguments[13], "cuda:4,4,2") << "an entry for each rank";
}

LaunchCommand Shell(const std::string& script) {
  return {.arguments = {"/bin/sh", "-c", script}, .environment = {}};
}

TEST(ChildProcess, NamesABinaryThatIsNotThere) {
  EXPECT_THAT(
      ChildProcess::Start({.arguments = {"/nowhere/fulger-worker"}, .environment = {}}, nullptr).status(),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("cannot start /nowhere/fulger-worker: No such file")));
}

std::string HowItEnds(const LaunchCommand& command) {
  std::promise<std::string> how;
  auto child = ChildProcess::Start(command, [&](const std::string& text) { how.set_value(text); });
  if (!child.ok()) return Message(child.status());
  return how.get_future().get();
}

TEST(ChildProcess, TellsTheExitCode) {
  EXPECT_EQ(HowItEnds(Shell("exit 7")), "exited with code 7");
  EXPECT_THAT(HowItEnds(Shell("kill -9 $$")), HasSubstr("was killed by signal 9"));
}

TEST(ChildProcess, AddsToTheEnvironment) {
  LaunchCommand command = Shell("test \"$FULGER_TEST\" = yes && test -n \"$PATH\" && exit 3");
  command.environment = {"FULGER_TEST=yes"};
  EXPECT_EQ(HowItEnds(command), "exited with code 3");
}

TEST(ChildProcess, StopEndsTheWholeGroup) {
  // The shell ignores SIGTERM, so SIGKILL must follow and reach its child too. Both hold the pipe open.
  const std::string fifo = testing::TempDir() + "/launcher_test_fifo_" + std::to_string(::getpid());
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  std::promise<std::string> how;
  auto started = ChildProcess::Start(
      Shell(fmt::format("trap '' TERM; exec 3>{}; echo ready >&3; sleep 1000 & wait; sleep 1000", fifo)),
      [&](const std::string& text) { how.set_value(text); });
  ASSERT_OK(started.status());
  const int fd = ::open(fifo.c_str(), O_RDONLY);
  ::unlink(fifo.c_str());
  char text[6];
  ASSERT_EQ(::read(fd, text, sizeof(text)), 6);
  started->reset();
  EXPECT_THAT(how.get_future().get(), HasSubstr("was killed by signal 9"));
  EXPECT_EQ(::read(fd, text, sizeof(text)), 0) << "end of file: no process of the group is left";
  ::close(fd);
}

TEST(ChildProcess, HearsSignalsThatWeBlock) {
  sigset_t term, before;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, &before);
  const std::string how = HowItEnds(Shell("kill -TERM $$; exit 5"));
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_THAT(how, HasSubstr("was killed by signal 15"));
}

TEST(ChildProcess, StopWaitsForAnOrderlyEnd) {
  std::promise<std::string> how;
  auto started = ChildProcess::Start(Shell("read x < /dev/null; exit 0"),
                                     [&](const std::string& text) { how.set_value(text); });
  ASSERT_OK(started.status());
  (*started)->Stop(30);
  EXPECT_EQ(how.get_future().get(), "exited with code 0");
}

}  // namespace
}  // namespace fulger
