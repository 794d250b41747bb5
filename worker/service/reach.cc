#include "worker/service/reach.h"

#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <utility>
#include <vector>

namespace fulger {
namespace {

struct HostPort {
  std::string host, port;
};

HostPort Split(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return {.host = address, .port = ""};
  std::string host = address.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return {.host = std::move(host), .port = address.substr(colon + 1)};
}

using Resolved = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

absl::StatusOr<Resolved> Resolve(const HostPort& to, int type) {
  addrinfo hints{};
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  if (const int error = ::getaddrinfo(to.host.c_str(), to.port.c_str(), &hints, &found); error != 0) {
    return NotFound("the name {} is not known on this host ({})", to.host, ::gai_strerror(error));
  }
  return Resolved(found, &::freeaddrinfo);
}

absl::Status Explain(const HostPort& to, int error) {
  switch (error) {
    case 0:
      return absl::OkStatus();
    case ECONNREFUSED:
      return Unavailable("host {} is there, but nothing listens on its port {}", to.host, to.port);
    case ENETUNREACH:
    case EHOSTUNREACH:
      return Unavailable("no way to host {}: it is down, its cable is, or this host has no route ({})",
                         to.host, std::strerror(error));
    default:
      return Unavailable("host {}, port {}: {}", to.host, to.port, std::strerror(error));
  }
}

// A connection that is being made.
class Dial {
 public:
  explicit Dial(HostPort to) : to_(std::move(to)) {
    auto resolved = Resolve(to_, SOCK_STREAM);
    if (!resolved.ok()) {
      Finish(resolved.status());
      return;
    }
    // The first address counts, as for everybody who dials a host of a cluster by name.
    const addrinfo* target = resolved->get();
    fd_ = ::socket(target->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd_ < 0) {
      Finish(Unavailable("socket: {}", std::strerror(errno)));
    } else if (::connect(fd_, target->ai_addr, target->ai_addrlen) == 0) {
      Finish(absl::OkStatus());
    } else if (errno != EINPROGRESS) {
      Finish(Explain(to_, errno));
    }
  }
  ~Dial() {
    if (fd_ >= 0) ::close(fd_);
  }
  Dial(const Dial&) = delete;
  Dial& operator=(const Dial&) = delete;

  int fd() const { return fd_; }
  bool done() const { return done_; }
  const absl::Status& status() const { return status_; }

  void OnWritable() {
    int error = 0;
    socklen_t size = sizeof(error);
    if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    Finish(Explain(to_, error));
  }
  void OnDeadline(std::chrono::milliseconds deadline) {
    Finish(DeadlineExceeded(
        "no answer from host {}, port {}, within {:.0f} s: a firewall drops it, or its network is down",
        to_.host, to_.port, std::chrono::duration<double>(deadline).count()));
  }

 private:
  void Finish(absl::Status status) {
    status_ = std::move(status);
    done_ = true;
  }

  const HostPort to_;
  int fd_ = -1;
  bool done_ = false;
  absl::Status status_;
};

void WaitForAll(std::span<const std::unique_ptr<Dial>> dials, std::chrono::milliseconds deadline) {
  const auto end = std::chrono::steady_clock::now() + deadline;
  while (true) {
    std::vector<pollfd> waits;
    std::vector<Dial*> waiting;
    for (const auto& dial : dials) {
      if (dial->done()) continue;
      waits.push_back({.fd = dial->fd(), .events = POLLOUT, .revents = 0});
      waiting.push_back(dial.get());
    }
    if (waits.empty()) return;
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
    if (left.count() <= 0) {
      for (Dial* dial : waiting) dial->OnDeadline(deadline);
      return;
    }
    if (::poll(waits.data(), waits.size(), static_cast<int>(left.count())) <= 0) continue;
    for (size_t i = 0; i < waits.size(); ++i) {
      if (waits[i].revents != 0) waiting[i]->OnWritable();
    }
  }
}

bool IsUnix(const std::string& address) { return address.starts_with("unix:"); }

}  // namespace

absl::Status Reach(const std::string& address, std::chrono::milliseconds deadline) {
  if (IsUnix(address)) return absl::OkStatus();
  const std::array<std::unique_ptr<Dial>, 1> dial{std::make_unique<Dial>(Split(address))};
  WaitForAll(dial, deadline);
  return dial[0]->status();
}

std::vector<absl::Status> UnreachedHosts(int rank, std::span<const std::string> addresses,
                                         std::chrono::milliseconds deadline) {
  std::set<std::string> seen{Split(addresses[static_cast<size_t>(rank)]).host};
  std::vector<size_t> ranks;
  std::vector<std::unique_ptr<Dial>> dials;
  for (size_t other = 0; other < addresses.size(); ++other) {
    if (IsUnix(addresses[other]) || !seen.insert(Split(addresses[other]).host).second) continue;
    ranks.push_back(other);
    dials.push_back(std::make_unique<Dial>(Split(addresses[other])));
  }
  WaitForAll(dials, deadline);
  std::vector<absl::Status> failures;
  for (size_t i = 0; i < dials.size(); ++i) {
    if (dials[i]->status().ok()) continue;
    failures.push_back(MakeStatus(dials[i]->status().code(), "rank {} at {} cannot reach rank {} at {}: {}",
                                  rank, Split(addresses[static_cast<size_t>(rank)]).host, ranks[i],
                                  Split(addresses[ranks[i]]).host, Message(dials[i]->status())));
  }
  return failures;
}

absl::Status ReachHosts(int rank, std::span<const std::string> addresses,
                        std::chrono::milliseconds deadline) {
  const std::vector<absl::Status> failures = UnreachedHosts(rank, addresses, deadline);
  return failures.empty() ? absl::OkStatus() : failures.front();
}

std::string OwnAddressTowards(const std::string& address) {
  auto resolved = Resolve(Split(address), SOCK_DGRAM);
  if (!resolved.ok()) return {};
  const addrinfo* target = resolved->get();
  const int fd = ::socket(target->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return {};
  sockaddr_storage own{};
  socklen_t size = sizeof(own);
  std::array<char, NI_MAXHOST> text{};
  // A datagram socket's connect sends nothing: it asks the routing table.
  const bool known = ::connect(fd, target->ai_addr, target->ai_addrlen) == 0 &&
                     ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &size) == 0 &&
                     ::getnameinfo(reinterpret_cast<sockaddr*>(&own), size, text.data(), text.size(), nullptr,
                                   0, NI_NUMERICHOST) == 0;
  ::close(fd);
  if (!known) return {};
  return own.ss_family == AF_INET6 ? fmt::format("[{}]", text.data()) : std::string(text.data());
}

}  // namespace fulger
