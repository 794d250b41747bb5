// One connection of the HTTP server, all of it on the connection's strand. Internal: included by the two
// files that make up the server.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "coordinator/api/http_exchange.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/http_wire.h"

namespace fulger::http_internal {

namespace net = boost::asio;
using boost::system::error_code;
using tcp = net::ip::tcp;

class BodyLease;
class Session;

// What the acceptor and all sessions share. Outlives every session: the server destroys it last.
struct Core {
  Core(const HttpServerOptions& o, Router r) : options(o), router(std::move(r)), io(o.threads) {}

  const HttpServerOptions options;
  const Router router;
  net::io_context io;
  // Apart from Core: a handler may keep its request longer than the server lives.
  std::shared_ptr<std::atomic<uint64_t>> body_bytes = std::make_shared<std::atomic<uint64_t>>(0);

  std::mutex mu;
  std::condition_variable changed;
  bool stopping = false;
  std::unordered_map<Session*, std::weak_ptr<Session>> sessions;

  bool Stopping() {
    std::lock_guard lock(mu);
    return stopping;
  }
};

class Session final : public ExchangeOwner, public std::enable_shared_from_this<Session> {
 public:
  Session(Core* core, tcp::socket socket, std::shared_ptr<net::ssl::context> tls);
  ~Session() override;

  // Any thread.
  template <typename F>
  void Post(F f) {
    net::post(wire_.get_executor(), [self = shared_from_this(), f] { ((*self).*f)(); });
  }

  void PostFlush() override { Post(&Session::Flush); }
  void PostClose() override { Post(&Session::Close); }

  void Start();
  void Flush();
  void Close();
  // Any thread: since when no request has been under way, in the steady clock's ticks; 0: one is. Taking it
  // makes it 0, so that nobody takes it twice.
  int64_t idle_since() const { return idle_since_.load(); }
  bool TakeIdle() { return idle_since_.exchange(0) != 0; }
  void CloseIfIdle() {
    if (state_ == State::kIdle) Close();
  }

 private:
  enum class State { kIdle, kReading, kBusy, kLinger };

  template <typename F>
  auto Bind(F f) {
    return [self = shared_from_this(), f](auto... args) { ((*self).*f)(args...); };
  }

  void WaitForRequest();
  void StartRead();
  void OnRead(error_code ec, size_t n);
  void ReadHeader();
  void OnHeader(error_code ec, size_t n);
  void SendContinue();
  void ReadBody();
  void OnBody(error_code ec, size_t n);
  void OnParseError(error_code ec);
  void Dispatch();
  void Fail(int status, std::string_view message);
  void OnWritten(error_code ec, size_t n);
  void Finish();
  void LingerClose();
  using Clock = net::steady_timer::clock_type;
  void Arm(Duration after);  // OnTimeout once this is over, in place of a limit set before
  void Disarm();
  void WaitUntil(Clock::time_point then);
  void OnTimer();
  void OnTimeout();

  Core* const core_;
  Wire wire_;
  net::steady_timer timer_;
  uint64_t timer_generation_ = 0;
  bool timer_waits_ = false;
  std::optional<Clock::time_point> deadline_;
  boost::beast::flat_buffer buffer_;
  std::optional<boost::beast::http::request_parser<boost::beast::http::string_body>> parser_;
  std::shared_ptr<BodyLease> lease_;
  std::shared_ptr<Exchange> exchange_;
  std::string writing_;
  std::string peer_;
  State state_ = State::kIdle;
  bool read_pending_ = false;   // the read that waits for a request or notices the client leaving
  bool no_more_input_ = false;  // the client has sent all it will
  bool timed_out_ = false, closed_ = false;
  std::atomic<int64_t> idle_since_;
};

}  // namespace fulger::http_internal
