#include "worker/doctor/machine.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <sstream>

namespace fulger {
namespace {

namespace fs = std::filesystem;

std::string Text(const fs::path& path) {
  const std::ifstream file(path);
  std::ostringstream out;
  out << file.rdbuf();  // a driver may refuse the read (the speed of an interface that has none): then it is
                        // empty
  std::string text = out.str();
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

int64_t Number(const fs::path& path, int64_t otherwise) {
  const std::string text = Text(path);
  char* end = nullptr;
  const long long value = std::strtoll(text.c_str(), &end, 10);
  return text.empty() || end == text.c_str() ? otherwise : value;
}

std::vector<std::string> Entries(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entries(folder, error);
  for (; !error && entries != fs::directory_iterator(); entries.increment(error)) {
    names.push_back(entries->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

// Lines "key: value kB" to bytes.
std::map<std::string, int64_t> KibibyteTable(const fs::path& path) {
  std::map<std::string, int64_t> table;
  std::istringstream lines(Text(path));
  for (std::string line; std::getline(lines, line);) {
    // A node's own table has "Node 0 MemTotal: ...".
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    const size_t begin = line.find_last_of(' ', colon);
    table[line.substr(begin == std::string::npos ? 0 : begin + 1,
                      colon - (begin == std::string::npos ? 0 : begin + 1))] =
        std::strtoll(line.c_str() + colon + 1, nullptr, 10) * 1024;
  }
  return table;
}

int64_t SoftLimit(__rlimit_resource what) {
  rlimit limit{};
  if (::getrlimit(what, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return -1;
  return static_cast<int64_t>(limit.rlim_cur);
}

// Total and free bytes; -1: there is no such folder.
std::pair<int64_t, int64_t> Space(const std::string& folder) {
  struct statvfs space {};
  if (::statvfs(folder.c_str(), &space) != 0) return {-1, -1};
  const auto block = static_cast<int64_t>(space.f_frsize);
  return {static_cast<int64_t>(space.f_blocks) * block, static_cast<int64_t>(space.f_bavail) * block};
}

// What control groups leave to this process: the tightest on the way up, of version 2 or 1.
class ControlGroup {
 public:
  ControlGroup() {
    std::istringstream lines(Text("/proc/self/cgroup"));
    for (std::string line; std::getline(lines, line);) {
      const size_t first = line.find(':'), second = line.find(':', first + 1);
      if (second == std::string::npos) continue;
      paths_[line.substr(first + 1, second - first - 1)] = line.substr(second + 1);
    }
  }

  // 0: none. Limits so large that they mean none are left out.
  int64_t MemoryLeft() const {
    int64_t left = 0;
    const auto see = [&left](const fs::path& folder, const char* limit_name, const char* use_name,
                             const char* cache_name) {
      const int64_t limit = Number(folder / limit_name, -1);
      if (limit <= 0 || limit >= int64_t{1} << 60) return;
      // Pages of files that nobody has used lately are given up before anybody is refused.
      const int64_t used = Number(folder / use_name, 0) - Entry(folder / "memory.stat", cache_name);
      const int64_t rest = std::max<int64_t>(1, limit - used);
      left = left == 0 ? rest : std::min(left, rest);
    };
    for (const fs::path& folder : Upwards("", "/sys/fs/cgroup")) {
      see(folder, "memory.max", "memory.current", "inactive_file");
    }
    for (const fs::path& folder : Upwards("memory", "/sys/fs/cgroup/memory")) {
      see(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file");
    }
    return left;
  }

  double Cores() const {
    double cores = 0;
    const auto see = [&cores](double quota, double period) {
      if (quota > 0 && period > 0) cores = cores == 0 ? quota / period : std::min(cores, quota / period);
    };
    for (const fs::path& folder : Upwards("", "/sys/fs/cgroup")) {
      std::istringstream text(Text(folder / "cpu.max"));
      double quota = 0, period = 0;
      if (text >> quota >> period) see(quota, period);  // "max 100000" is no number
    }
    for (const std::string controller : {"cpu", "cpu,cpuacct"}) {
      for (const fs::path& folder : Upwards(controller, "/sys/fs/cgroup/" + controller)) {
        see(static_cast<double>(Number(folder / "cpu.cfs_quota_us", -1)),
            static_cast<double>(Number(folder / "cpu.cfs_period_us", 0)));
      }
    }
    return cores;
  }

 private:
  // The number after a word at a line's beginning; 0: it is not there.
  static int64_t Entry(const fs::path& path, const std::string& name) {
    std::istringstream words(Text(path));
    for (std::string word; words >> word;) {
      int64_t value = 0;
      if (words >> value && word == name) return value;
    }
    return 0;
  }

  std::vector<fs::path> Upwards(const std::string& controller, const fs::path& root) const {
    const auto path = paths_.find(controller);
    if (path == paths_.end()) return {};
    std::vector<fs::path> folders;
    for (fs::path p = fs::path(path->second).relative_path(); !p.empty(); p = p.parent_path())
      folders.push_back(root / p);
    folders.push_back(root);
    return folders;
  }

  std::map<std::string, std::string> paths_;  // by controller; "" is version 2
};

void LookAtMemory(v1::NodeFacts* facts) {
  const std::map<std::string, int64_t> memory = KibibyteTable("/proc/meminfo");
  const auto of = [&](const char* key) {
    const auto found = memory.find(key);
    return found == memory.end() ? 0 : found->second;
  };
  facts->set_memory_total(of("MemTotal"));
  facts->set_memory_available(of("MemAvailable"));
  // "HugePages_Total: 12" is a count, and was taken for KiB.
  facts->set_huge_pages_reserved(of("HugePages_Total") / 1024 * of("Hugepagesize"));
  const std::string pages = Text("/sys/kernel/mm/transparent_hugepage/enabled");  // "always [madvise] never"
  if (const size_t open = pages.find('['), close = pages.find(']');
      open < close && close != std::string::npos) {
    facts->set_huge_pages(pages.substr(open + 1, close - open - 1));
  }
  const auto [total, free] = Space("/dev/shm");
  facts->set_shared_total(total);
  facts->set_shared_free(free);
  const char* folder = std::getenv("TMPDIR");
  facts->set_temporary(folder != nullptr && *folder != '\0' ? folder : "/tmp");
  facts->set_temporary_free(Space(facts->temporary()).second);
  facts->set_temporary_writable(::access(facts->temporary().c_str(), W_OK | X_OK) == 0);
}

void LookAtNuma(v1::NodeFacts* facts) {
  const fs::path root = "/sys/devices/system/node";
  for (const std::string& name : Entries(root)) {
    if (!name.starts_with("node") || name.size() < 5 ||
        std::isdigit(static_cast<unsigned char>(name[4])) == 0)
      continue;
    v1::NumaNode* node = facts->add_numa();
    const std::vector<std::string> inside = Entries(root / name);
    node->set_cores(
        static_cast<int32_t>(std::count_if(inside.begin(), inside.end(), [](const std::string& entry) {
          return entry.starts_with("cpu") && entry.size() > 3 &&
                 std::isdigit(static_cast<unsigned char>(entry[3])) != 0;
        })));
    node->set_memory_total(KibibyteTable(root / name / "meminfo")["MemTotal"]);
  }
}

void LookAtGpus(v1::NodeFacts* facts) {
  std::istringstream version(Text("/proc/driver/nvidia/version"));
  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat ..."
  for (std::string word; version >> word;) {
    if (std::count(word.begin(), word.end(), '.') >= 1 &&
        std::isdigit(static_cast<unsigned char>(word[0])) != 0) {
      facts->set_gpu_driver(word);
      break;
    }
  }
  for (const std::string& gpu : Entries("/proc/driver/nvidia/gpus")) {
    std::istringstream lines(Text("/proc/driver/nvidia/gpus/" + gpu + "/information"));
    std::string model = "unknown";
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("Model:")) continue;
      const size_t begin = line.find_first_not_of(" \t", 6);
      if (begin != std::string::npos) model = line.substr(begin);
    }
    facts->add_gpus(model + " at " + gpu);
  }
}

std::string AddressText(const sockaddr* address) {
  std::array<char, NI_MAXHOST> text{};
  const socklen_t size = address->sa_family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  if (::getnameinfo(address, size, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0) return {};
  return text.data();
}

void LookAtNetwork(const std::string& address, v1::NodeFacts* facts) {
  std::string wanted = address;
  if (wanted.starts_with('[') && wanted.ends_with(']')) wanted = wanted.substr(1, wanted.size() - 2);
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return;
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(all, &::freeifaddrs);
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr ||
        (one->ifa_addr->sa_family != AF_INET && one->ifa_addr->sa_family != AF_INET6))
      continue;
    if (AddressText(one->ifa_addr) != wanted) continue;
    v1::NetworkInterface* network = facts->mutable_network();
    network->set_name(one->ifa_name);
    network->set_address(wanted);
    const fs::path folder = fs::path("/sys/class/net") / one->ifa_name;
    network->set_mtu(Number(folder / "mtu", 0));
    network->set_megabits(std::max<int64_t>(0, Number(folder / "speed", 0)));
    break;
  }
  for (const std::string& device : Entries("/sys/class/infiniband")) facts->add_infiniband(device);
}

std::string FirstLineOf(const char* command) {
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen(command, "r"), &::pclose);
  std::array<char, 256> line{};
  if (pipe == nullptr || std::fgets(line.data(), line.size(), pipe.get()) == nullptr) return {};
  std::string text = line.data();
  while (!text.empty() && text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace

std::vector<int> AllowedCores() {
  // More than any kernel's mask.
  constexpr int kMost = 8192;
  const std::unique_ptr<cpu_set_t, void (*)(cpu_set_t*)> set(CPU_ALLOC(kMost),
                                                             [](cpu_set_t* s) { CPU_FREE(s); });
  const size_t bytes = CPU_ALLOC_SIZE(kMost);
  std::vector<int> cores;
  if (set == nullptr || ::sched_getaffinity(0, bytes, set.get()) != 0) return cores;
  for (int core = 0; core < kMost; ++core) {
    if (CPU_ISSET_S(static_cast<size_t>(core), bytes, set.get())) cores.push_back(core);
  }
  return cores;
}

std::string LoadedLibrary(const std::string& prefix) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const size_t path = line.find('/');
    if (path == std::string::npos) continue;
    const size_t name = line.rfind('/');
    if (line.compare(name + 1, prefix.size(), prefix) == 0) return line.substr(path);
  }
  return {};
}

Mount MountOf(const std::string& path) {
  Mount best;
  std::ifstream mounts("/proc/self/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream words(line);
    std::string device, point, type;
    if (!(words >> device >> point >> type)) continue;
    const bool holds =
        path.starts_with(point) && (point == "/" || path.size() == point.size() || path[point.size()] == '/');
    // The last of those mounted at one point hides the others.
    if (holds && point.size() >= best.point.size()) best = {.point = point, .type = type};
  }
  return best;
}

v1::NodeFacts LookAtNode(const std::string& address) {
  v1::NodeFacts facts;
  utsname kernel{};
  if (::uname(&kernel) == 0) facts.set_kernel(fmt::format("{} {}", kernel.sysname, kernel.release));
  facts.set_cores(static_cast<int32_t>(::sysconf(_SC_NPROCESSORS_ONLN)));
  const ControlGroup group;
  facts.set_core_quota(group.Cores());
  facts.set_memory_limit(group.MemoryLeft());
  LookAtMemory(&facts);
  facts.set_locked_limit(SoftLimit(RLIMIT_MEMLOCK));
  facts.set_files_limit(SoftLimit(RLIMIT_NOFILE));
  LookAtNuma(&facts);
  LookAtGpus(&facts);
  LookAtNetwork(address, &facts);
  facts.set_mpirun_path(FirstLineOf("command -v mpirun"));
  if (!facts.mpirun_path().empty()) {
    facts.set_mpirun_version(FirstLineOf("timeout -k 1 3 mpirun --version 2>/dev/null </dev/null"));
  }
  return facts;
}

}  // namespace fulger
