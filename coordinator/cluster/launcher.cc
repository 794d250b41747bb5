#include "coordinator/cluster/launcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <utility>

extern char** environ;

namespace fulger {
namespace {

std::vector<char*> Pointers(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& s : strings) pointers.push_back(s.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::string DescribeExit(int status) {
  if (WIFEXITED(status)) return fmt::format("exited with code {}", WEXITSTATUS(status));
  if (WIFSIGNALED(status))
    return fmt::format("was killed by signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return "ended";
}

// "cpu", or "cuda:0,1,..." with an entry for each rank: a rank of mpirun takes the one of its place.
std::string ListOf(const std::vector<std::string>& devices) {
  std::string list = devices[0];
  if (list == "cpu") return list;
  for (size_t i = 1; i < devices.size(); ++i) list += "," + devices[i].substr(devices[i].find(':') + 1);
  return list;
}

}  // namespace

std::vector<LaunchCommand> MakeLaunchCommands(const LaunchSpec& spec, bool as_root, int cores) {
  const int threads =
      spec.threads_per_rank > 0 ? spec.threads_per_rank : std::max(1, cores / std::max(1, spec.ranks));
  const auto worker = [&](LaunchCommand* command, const std::string& devices) {
    std::vector<std::string>& a = command->arguments;
    a.insert(a.end(), {spec.worker_binary, "--coordinator", spec.control_address, "--device", devices,
                       "--threads", std::to_string(threads)});
    if (spec.ranks_per_device > 1) {
      a.insert(a.end(), {"--ranks-per-device", std::to_string(spec.ranks_per_device)});
    }
    a.insert(a.end(), spec.extra_arguments.begin(), spec.extra_arguments.end());
  };
  if (spec.mpi) {
    LaunchCommand command;
    command.arguments = {"mpirun", "-np", std::to_string(spec.ranks), "--oversubscribe", "--bind-to", "none"};
    // A waiting rank must give its core away: with more ranks than cores that is worth a factor of a hundred.
    command.arguments.insert(command.arguments.end(), {"--mca", "mpi_yield_when_idle", "1"});
    if (!spec.hosts.empty()) command.arguments.insert(command.arguments.end(), {"--host", spec.hosts});
    if (as_root) {
      command.environment = {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"};
    }
    worker(&command, ListOf(spec.devices));
    return {command};
  }
  std::vector<LaunchCommand> commands(static_cast<size_t>(spec.ranks));
  for (size_t r = 0; r < commands.size(); ++r) {
    worker(&commands[r], spec.devices[std::min(r, spec.devices.size() - 1)]);
    if (spec.ranks > 1)
      commands[r].arguments.insert(commands[r].arguments.end(), {"--rank", std::to_string(r)});
  }
  return commands;
}

std::string BesideThisProgram(const std::string& name) {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? name : (self.parent_path() / name).string();
}

absl::StatusOr<std::unique_ptr<ChildProcess>> ChildProcess::Start(
    const LaunchCommand& command, std::function<void(const std::string&)> on_exit) {
  std::vector<std::string> arguments = command.arguments;
  std::vector<std::string> environment;
  for (char** e = environ; *e != nullptr; ++e) environment.emplace_back(*e);
  environment.insert(environment.end(), command.environment.begin(), command.environment.end());
  std::vector<char*> argv = Pointers(arguments);
  std::vector<char*> envp = Pointers(environment);

  // The pipe closes on a successful exec and carries errno otherwise.
  int failure[2];
  if (::pipe2(failure, O_CLOEXEC) != 0) return Unavailable("pipe: {}", std::strerror(errno));
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    const int error = errno;
    ::close(failure[0]);
    ::close(failure[1]);
    return Unavailable("fork: {}", std::strerror(error));
  }
  if (pid == 0) {
    // Only async-signal-safe calls from here on.
    ::setpgid(0, 0);
    sigset_t none;  // ours is inherited, and a server blocks SIGTERM in order to wait for it
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(1);
    const int null = ::open("/dev/null", O_RDONLY);
    if (null >= 0) ::dup2(null, 0);
    ::execvpe(argv[0], argv.data(), envp.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t n = ::write(failure[1], &error, sizeof(error));
    ::_exit(127);
  }
  ::close(failure[1]);
  int error = 0;
  const ssize_t n = ::read(failure[0], &error, sizeof(error));
  ::close(failure[0]);
  if (n == static_cast<ssize_t>(sizeof(error))) {
    ::waitpid(pid, nullptr, 0);
    return NotFound("cannot start {}: {}", command.arguments[0], std::strerror(error));
  }
  return std::unique_ptr<ChildProcess>(new ChildProcess(pid, std::move(on_exit)));
}

ChildProcess::ChildProcess(pid_t pid, std::function<void(const std::string&)> on_exit) : pid_(pid) {
  waiter_ = std::thread([this, on_exit = std::move(on_exit)] {
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    {
      std::lock_guard lock(mu_);
      exited_ = true;
    }
    exited_cv_.notify_all();
    if (on_exit) on_exit(DescribeExit(status));
  });
}

void ChildProcess::Terminate() {
  std::lock_guard lock(mu_);
  if (!exited_) ::kill(-pid_, SIGTERM);
}

void ChildProcess::Stop(double seconds) {
  std::unique_lock lock(mu_);
  const auto exited = [this] { return exited_; };
  if (exited_cv_.wait_for(lock, std::chrono::duration<double>(seconds), exited)) return;
  ::kill(-pid_, SIGTERM);
  if (exited_cv_.wait_for(lock, std::chrono::seconds(3), exited)) return;
  ::kill(-pid_, SIGKILL);
}

ChildProcess::~ChildProcess() {
  Stop(0);
  waiter_.join();
  // Whatever the child left behind in its group (ranks of a killed mpirun).
  ::kill(-pid_, SIGKILL);
}

}  // namespace fulger
