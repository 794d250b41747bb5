#include "tests/bench/socket_watch.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <string_view>

namespace fulger {
namespace {

constexpr int kMaxFds = 1 << 16;
const TokenTimes* g_times = nullptr;
// Of each connection: which stream, and how many of its tokens have been written. One thread at a time uses a
// connection.
struct Connection {
  int64_t stream = -1, next = 0;
};
std::array<Connection, kMaxFds> g_connections;

bool Watched(int fd) { return g_times != nullptr && fd >= 0 && fd < kMaxFds; }

std::string_view View(const iovec& part) { return {static_cast<const char*>(part.iov_base), part.iov_len}; }

void OnReceived(int fd, std::string_view bytes) {
  constexpr std::string_view kHeader = "x-request-id: ";
  const size_t at = bytes.find(kHeader);
  if (at == std::string_view::npos) return;
  g_connections[static_cast<size_t>(fd)] = {.stream = StreamOf(bytes.substr(at + kHeader.size())), .next = 0};
}

int64_t TokensIn(std::string_view bytes) {
  int64_t count = 0;
  for (size_t at = 0; (at = bytes.find(kTokenMark, at)) != std::string_view::npos; at += kTokenMark.size())
    ++count;
  return count;
}

void OnSent(int fd, int64_t tokens) {
  if (tokens == 0) return;
  Connection& connection = g_connections[static_cast<size_t>(fd)];
  const int64_t now = MonotonicNanoseconds();
  for (; tokens > 0 && connection.stream >= 0 && connection.next < g_times->tokens;
       --tokens, ++connection.next) {
    g_times->At(g_times->written, connection.stream, connection.next).store(now, std::memory_order_relaxed);
  }
}

// What stands before libc's. A write that took only a part of its bytes counts with the rest of them: the
// streams' events are far smaller than a socket's buffer.
ssize_t SendMessage(int fd, const msghdr* message, int flags) {
  const ssize_t n = ::syscall(SYS_sendmsg, fd, message, flags);
  if (n <= 0 || !Watched(fd)) return n;
  int64_t tokens = 0;
  for (size_t i = 0; i < message->msg_iovlen; ++i) tokens += TokensIn(View(message->msg_iov[i]));
  OnSent(fd, tokens);
  return n;
}

ssize_t Send(int fd, const void* data, size_t size, int flags) {
  const ssize_t n = ::syscall(SYS_sendto, fd, data, size, flags, nullptr, 0);
  if (n > 0 && Watched(fd)) OnSent(fd, TokensIn({static_cast<const char*>(data), static_cast<size_t>(n)}));
  return n;
}

ssize_t ReceiveMessage(int fd, msghdr* message, int flags) {
  const ssize_t n = ::syscall(SYS_recvmsg, fd, message, flags);
  if (n > 0 && message->msg_iovlen > 0 && Watched(fd)) {
    OnReceived(fd, View(message->msg_iov[0]).substr(0, static_cast<size_t>(n)));
  }
  return n;
}

ssize_t Receive(int fd, void* data, size_t size, int flags) {
  const ssize_t n = ::syscall(SYS_recvfrom, fd, data, size, flags, nullptr, nullptr);
  if (n > 0 && Watched(fd)) OnReceived(fd, {static_cast<const char*>(data), static_cast<size_t>(n)});
  return n;
}

}  // namespace

void WatchSockets(const TokenTimes* times) { g_times = times; }

}  // namespace fulger

extern "C" ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  return fulger::SendMessage(fd, message, flags);
}
extern "C" ssize_t send(int fd, const void* data, size_t size, int flags) {
  return fulger::Send(fd, data, size, flags);
}
extern "C" ssize_t recvmsg(int fd, msghdr* message, int flags) {
  return fulger::ReceiveMessage(fd, message, flags);
}
extern "C" ssize_t recv(int fd, void* data, size_t size, int flags) {
  return fulger::Receive(fd, data, size, flags);
}
