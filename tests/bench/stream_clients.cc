#include "tests/bench/stream_clients.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <vector>

namespace fulger {

int64_t MonotonicNanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

int64_t StreamOf(std::string_view name) {
  constexpr std::string_view kPrefix = "stream-";
  if (!name.starts_with(kPrefix)) return -1;
  int64_t stream = -1;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), stream);
  return stream;
}

namespace {

constexpr size_t kReadBytes = 65536;

struct Stream {
  int fd = -1;
  std::string pending;  // an event that is not complete
  int64_t next = 0;     // token
  bool ok = false, done = false;
};

class Clients {
 public:
  Clients(uint16_t port, const TokenTimes& times)
      : port_(port), times_(times), streams_(static_cast<size_t>(times.streams)), poll_(::epoll_create1(0)) {}
  ~Clients() {
    for (const Stream& stream : streams_) {
      if (stream.fd >= 0) ::close(stream.fd);
    }
    ::close(poll_);
  }

  ClientReport Run(double seconds) {
    const int64_t end = MonotonicNanoseconds() + static_cast<int64_t>(seconds * 1e9);
    for (size_t i = 0; i < streams_.size(); ++i) Open(i);
    std::vector<epoll_event> events(512);
    while (open_ > 0 && MonotonicNanoseconds() < end) {
      const int n = ::epoll_wait(poll_, events.data(), static_cast<int>(events.size()), 200);
      for (int i = 0; i < n; ++i) Read(events[static_cast<size_t>(i)].data.u64);
    }
    for (size_t i = 0; i < streams_.size(); ++i) {
      const Stream& stream = streams_[i];
      report_.lost += times_.tokens - std::min(times_.tokens, stream.next);
      const bool complete = stream.done && stream.next == times_.tokens;
      report_.complete += complete;
      if (!complete)
        Blame(i, "got " + std::to_string(stream.next) + " tokens" + (stream.done ? "" : ", no [DONE]"));
    }
    return report_;
  }

 private:
  void Blame(size_t i, const std::string& words) {
    if (report_.message[0] != 0) return;
    const std::string text = StreamName(static_cast<int64_t>(i)) + ": " + words;
    std::strncpy(report_.message, text.c_str(), sizeof(report_.message) - 1);
  }

  void Open(size_t i) {
    Stream& stream = streams_[i];
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    stream.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const std::string body = R"({"model":"demo","stream":true,"ignore_eos":true,"max_tokens":)" +
                             std::to_string(times_.tokens) +
                             R"(,"messages":[{"role":"user","content":"Hi"}]})";
    const std::string request =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n" +
        ("x-request-id: " + StreamName(static_cast<int64_t>(i))) +
        "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    if (stream.fd < 0 || ::connect(stream.fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 ||
        ::send(stream.fd, request.data(), request.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(request.size())) {
      ++report_.refused;
      Blame(i, std::string("cannot connect or send: ") + std::strerror(errno));
      return;
    }
    ::fcntl(stream.fd, F_SETFL, O_NONBLOCK);
    epoll_event event{.events = EPOLLIN, .data = {.u64 = i}};
    ::epoll_ctl(poll_, EPOLL_CTL_ADD, stream.fd, &event);
    ++open_;
  }

  void Read(size_t i) {
    Stream& stream = streams_[i];
    const ssize_t n = ::recv(stream.fd, buffer_, kReadBytes, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      Close(&stream);
      return;
    }
    const int64_t now = MonotonicNanoseconds();
    stream.pending.append(buffer_, static_cast<size_t>(n));
    size_t from = 0;
    for (size_t end; (end = stream.pending.find("\n\n", from)) != std::string::npos; from = end + 2) {
      Event(i, std::string_view(stream.pending).substr(from, end - from), now);
    }
    stream.pending.erase(0, from);
    if (stream.done) Close(&stream);
  }

  void Event(size_t i, std::string_view event, int64_t now) {
    Stream& stream = streams_[i];
    if (!stream.ok) {  // the head of the answer stands before its first event
      stream.ok = event.find("HTTP/1.1 200") != std::string_view::npos;
      if (!stream.ok) {
        ++report_.refused;
        Blame(i, std::string(event.substr(0, 120)));
        Close(&stream);
        return;
      }
    }
    if (event.ends_with("data: [DONE]")) stream.done = true;
    const size_t mark = event.find(kTokenMark);
    if (mark == std::string_view::npos) return;
    const std::string_view text = event.substr(mark + kTokenMark.size());
    if (!(text.size() >= 2 && text[0] == Letter(stream.next) && text[1] == '"')) {
      ++report_.out_of_order;
      Blame(i, "token " + std::to_string(stream.next) + " is " + std::string(text.substr(0, 10)));
    }
    if (stream.next < times_.tokens) {
      times_.At(times_.received, static_cast<int64_t>(i), stream.next).store(now, std::memory_order_relaxed);
    }
    ++stream.next;
    if (report_.first_ns == 0) report_.first_ns = now;
    report_.last_ns = now;
  }

  void Close(Stream* stream) {
    if (stream->fd < 0) return;
    ::close(stream->fd);  // and leaves the poll set
    stream->fd = -1;
    --open_;
  }

  const uint16_t port_;
  const TokenTimes& times_;
  std::vector<Stream> streams_;
  const int poll_;
  int64_t open_ = 0;
  ClientReport report_;
  char buffer_[kReadBytes];
};

}  // namespace

ClientReport RunClients(uint16_t port, const TokenTimes& times, double seconds) {
  return Clients(port, times).Run(seconds);
}

}  // namespace fulger
