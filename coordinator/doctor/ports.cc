#include "coordinator/doctor/ports.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <sstream>

namespace fulger {
namespace {

namespace fs = std::filesystem;

// Inodes of sockets that listen on the port, of either family.
std::set<std::string> Listeners(uint16_t port) {
  constexpr std::string_view kListening = "0A";
  std::set<std::string> inodes;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    for (std::string line; std::getline(file, line);) {
      std::istringstream words(line);
      std::string slot, local, remote, state, queues, timer, retransmits, user, timeout, inode;
      if (!(words >> slot >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >>
            inode))
        continue;
      if (state == kListening && local.ends_with(fmt::format(":{:04X}", port)))
        inodes.insert("socket:[" + inode + "]");
    }
  }
  return inodes;
}

// "pid 4711 (nginx)"; empty: of another user, and not root here.
std::string Holder(uint16_t port) {
  const std::set<std::string> inodes = Listeners(port);
  std::error_code error;
  for (const fs::directory_entry& process : fs::directory_iterator("/proc", error)) {
    const std::string pid = process.path().filename().string();
    if (pid.find_first_not_of("0123456789") != std::string::npos) continue;
    std::error_code gone;
    fs::directory_iterator files(process.path() / "fd", gone);
    for (; !gone && files != fs::directory_iterator(); files.increment(gone)) {
      std::error_code closed;
      if (!inodes.contains(fs::read_symlink(files->path(), closed).string())) continue;
      std::ifstream name(process.path() / "comm");
      std::string text;
      std::getline(name, text);
      return fmt::format("pid {} ({})", pid, text);
    }
  }
  return {};
}

}  // namespace

absl::Status CheckPort(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
      error != 0) {
    return FailedPrecondition("{}: {}", host, ::gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  const int fd = ::socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return FailedPrecondition("socket: {}", std::strerror(errno));
  const int on = 1;
  (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on,
                     sizeof(on));  // as servers do: what ended a moment ago is no obstacle
  int error = ::bind(fd, found->ai_addr, found->ai_addrlen) == 0 ? 0 : errno;
  if (error == 0 && ::listen(fd, 1) != 0) error = errno;
  ::close(fd);
  if (error == 0) return absl::OkStatus();
  if (error != EADDRINUSE) return FailedPrecondition("{}:{}: {}", host, port, std::strerror(error));
  const std::string holder = Holder(port);
  return Unavailable("{}:{} is taken by {}", host, port,
                     holder.empty() ? "a process of another user" : holder);
}

std::string OwnAddress() {
  const auto loopback = [](const sockaddr* address) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  };
  std::array<char, 256> name{};
  addrinfo hints{};
  hints.ai_family = AF_INET;
  addrinfo* found = nullptr;
  if (::gethostname(name.data(), name.size() - 1) == 0 &&
      ::getaddrinfo(name.data(), nullptr, &hints, &found) == 0) {
    const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
    if (!loopback(found->ai_addr)) return name.data();
  }
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return "127.0.0.1";
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(all, &::freeifaddrs);
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET || loopback(one->ifa_addr)) continue;
    if ((one->ifa_flags & IFF_UP) == 0) continue;
    std::array<char, NI_MAXHOST> text{};
    if (::getnameinfo(one->ifa_addr, sizeof(sockaddr_in), text.data(), text.size(), nullptr, 0,
                      NI_NUMERICHOST) == 0)
      return text.data();
  }
  return "127.0.0.1";
}

}  // namespace fulger
