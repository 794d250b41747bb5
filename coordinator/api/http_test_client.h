// For tests: a blocking HTTP client on a plain socket, so that the bytes on the wire are what is asserted.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>

namespace fulger {

struct TestResponse {
  int status = 0;  // 0: the connection closed before an answer
  std::string head;
  std::string body;       // de-chunked
  bool complete = false;  // Content-Length or the last chunk was reached
  std::string Header(const std::string& name) const {
    const size_t at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const size_t from = at + name.size() + 4;
    return head.substr(from, head.find("\r\n", from) - from);
  }
};

class TestClient {
 public:
  // `receive_buffer` > 0: a small one makes a slow reader out of a client that does not read.
  explicit TestClient(uint16_t port, int receive_buffer = 0) {
    fd_ = socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0) setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    const timeval limit{.tv_sec = 20, .tv_usec = 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0;
  }
  ~TestClient() { Close(); }
  TestClient(const TestClient&) = delete;
  TestClient& operator=(const TestClient&) = delete;

  bool connected() const { return connected_; }
  void Close() {
    if (fd_ >= 0) close(fd_);
    fd_ = -1;
  }
  void FinishSending() { shutdown(fd_, SHUT_WR); }

  bool Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  static std::string Request(const std::string& method, const std::string& target, const std::string& body,
                             const std::string& headers = "") {
    std::string r = method + " " + target + " HTTP/1.1\r\nHost: test\r\n" + headers;
    if (method == "POST") r += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return r + "\r\n" + body;
  }

  // Up to and including `mark`, or all there was when the connection ended.
  std::string ReadUntil(std::string_view mark) {
    size_t at = 0;
    while ((at = buffer_.find(mark)) == std::string::npos) {
      if (!More()) return std::exchange(buffer_, {});
    }
    return Take(at + mark.size());
  }
  TestResponse ReadResponse(bool head_only = false) {
    TestResponse r;
    r.head = ReadUntil("\r\n\r\n");
    if (r.head.size() < 12) return r;
    r.status = std::atoi(r.head.c_str() + 9);
    if (head_only || r.status == 204 || r.status == 304 || r.status == 100) {
      r.complete = true;
    } else if (const std::string length = r.Header("Content-Length"); !length.empty()) {
      const size_t n = std::strtoul(length.c_str(), nullptr, 10);
      while (buffer_.size() < n && More()) {
      }
      r.complete = buffer_.size() >= n;
      r.body = Take(n);
    } else if (r.Header("Transfer-Encoding") == "chunked") {
      std::string chunk;
      do {
        chunk = ReadChunk(&r.complete);
        r.body += chunk;
      } while (!chunk.empty());
    } else {
      while (More()) {
      }
      r.body = Take(buffer_.size());
      r.complete = true;
    }
    return r;
  }
  // One chunk of a streamed body; empty at the end (`complete` becomes true) or when the connection broke.
  std::string ReadChunk(bool* complete) {
    const std::string line = ReadUntil("\r\n");
    if (line.empty()) return {};
    const size_t n = std::strtoul(line.c_str(), nullptr, 16);
    while (buffer_.size() < n + 2 && More()) {
    }
    if (buffer_.size() < n + 2) return {};
    std::string data = Take(n);
    Take(2);
    if (n == 0) *complete = true;
    return data;
  }
  TestResponse Call(const std::string& method, const std::string& target, const std::string& body = "",
                    const std::string& headers = "") {
    Send(Request(method, target, body, headers));
    return ReadResponse(method == "HEAD");
  }
  // All that comes until the server closes the connection; empty if it does not within the receive timeout.
  std::string ReadToEnd() {
    while (More()) {
    }
    return ended_ ? Take(buffer_.size()) : std::string();
  }
  // True when the server has closed the connection; what came before is dropped.
  bool AtEnd() {
    while (More()) {
    }
    return ended_;
  }
  // The same, waiting for at most so long.
  bool AtEnd(std::chrono::milliseconds limit) {
    pollfd readable{.fd = fd_, .events = POLLIN, .revents = 0};
    return poll(&readable, 1, static_cast<int>(limit.count())) > 0 && AtEnd();
  }

 private:
  bool More() {
    char bytes[16384];
    const ssize_t n = recv(fd_, bytes, sizeof(bytes), 0);
    if (n > 0) buffer_.append(bytes, static_cast<size_t>(n));
    // A reset is an end as well; a timeout (EAGAIN) is not.
    ended_ = n == 0 || (n < 0 && errno == ECONNRESET);
    return n > 0;
  }
  std::string Take(size_t n) {
    std::string taken = buffer_.substr(0, n);
    buffer_.erase(0, n);
    return taken;
  }

  int fd_ = -1;
  bool connected_ = false, ended_ = false;
  std::string buffer_;
};

}  // namespace fulger
