// The only file that includes Beast (15 s of compiling). One Session per connection, all of it on the
// connection's strand; one Exchange per request, which is the part that other threads may touch.
#include "coordinator/api/http_server.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <condition_variable>
#include <ctime>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "base/log.h"

namespace fulger {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = net::ip::tcp;

constexpr size_t kMaxPipelined = 64 << 10;
constexpr size_t kReadBytes = 16 << 10;
constexpr Duration kLingerTime = std::chrono::seconds(2);

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

// A share of the bytes that all bodies together may take; given back when the request is destroyed.
class BodyLease {
 public:
  explicit BodyLease(Core* core) : used_(core->body_bytes), limit_(core->options.max_bodies_bytes) {}
  ~BodyLease() { used_->fetch_sub(held_); }
  BodyLease(const BodyLease&) = delete;
  BodyLease& operator=(const BodyLease&) = delete;

  bool GrowTo(uint64_t bytes) {
    if (bytes <= held_) return true;
    const uint64_t more = bytes - held_;
    if (used_->fetch_add(more) + more > limit_) {
      used_->fetch_sub(more);
      return false;
    }
    held_ = bytes;
    return true;
  }

 private:
  std::shared_ptr<std::atomic<uint64_t>> used_;
  const uint64_t limit_;
  uint64_t held_ = 0;
};

std::string HttpDate() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  const size_t n = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &utc);
  return std::string(text, n);
}

// How the client wants to be answered.
struct Manner {
  bool head = false;  // no body
  bool http11 = true;
  bool keep_alive = true;
  std::string route = "other";
};

// The answer to one request while it is being made. Any thread; the session drains it on its strand.
class Exchange {
 public:
  Exchange(std::shared_ptr<Session> session, Manner manner, uint64_t max_unsent)
      : manner_(std::move(manner)), max_unsent_(max_unsent), session_(std::move(session)) {}

  void Send(HttpResponse response);
  void Begin(int status, std::string_view content_type, const HttpHeaders& headers);
  bool Write(std::string_view data);
  void End();
  void OnGone(std::function<void()> gone);
  void Dropped();

  // Strand. The bytes to write next; empty: nothing for now, or the end (ended()).
  std::string TakePending();
  bool ended() const {
    std::lock_guard lock(mu_);
    return ended_;
  }
  int status() const {
    std::lock_guard lock(mu_);
    return status_;
  }
  // Strand; written at Begin or Send, read after the end.
  bool keep_alive() const {
    std::lock_guard lock(mu_);
    return manner_.keep_alive;
  }
  const std::string& route() const { return manner_.route; }
  // Strand, once: the connection has nothing more to do with this exchange.
  void Detach(bool client_gone);

 private:
  void AppendHead(int status, std::string_view content_type, const HttpHeaders& headers,
                  std::optional<size_t> length);
  void PostFlush();

  mutable std::mutex mu_;
  Manner manner_;
  const uint64_t max_unsent_;
  std::shared_ptr<Session> session_;  // keeps the connection until Detach
  std::string pending_;
  size_t in_flight_ = 0;
  int status_ = 0;         // 0: not begun
  bool flushing_ = false;  // the session knows that there is something to write
  bool ended_ = false, gone_ = false;
  std::function<void()> on_gone_;
};

// What a handler holds. Its end answers for handlers that forgot.
class Responder final : public HttpResponder {
 public:
  explicit Responder(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {}
  ~Responder() override { exchange_->Dropped(); }
  void Send(HttpResponse response) override { exchange_->Send(std::move(response)); }
  void Begin(int status, std::string_view content_type, const HttpHeaders& headers) override {
    exchange_->Begin(status, content_type, headers);
  }
  bool Write(std::string_view data) override { return exchange_->Write(data); }
  void End() override { exchange_->End(); }
  void OnGone(std::function<void()> gone) override { exchange_->OnGone(std::move(gone)); }

 private:
  std::shared_ptr<Exchange> exchange_;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Core* core, tcp::socket socket)
      : core_(core),
        socket_(std::move(socket)),
        timer_(socket_.get_executor()),
        buffer_(core->options.max_header_bytes + kMaxPipelined + kReadBytes) {
    error_code ec;
    const tcp::endpoint peer = socket_.remote_endpoint(ec);
    if (!ec) peer_ = fmt::format("{}:{}", peer.address().to_string(), peer.port());
  }
  ~Session() {
    std::lock_guard lock(core_->mu);
    core_->sessions.erase(this);
    core_->changed.notify_all();
  }

  // Any thread.
  template <typename F>
  void Post(F f) {
    net::post(socket_.get_executor(), [self = shared_from_this(), f] { ((*self).*f)(); });
  }

  void Start() { WaitForRequest(); }
  void Flush();
  void Close();
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
  void Arm(Duration after);
  void Disarm();
  void OnTimeout();

  Core* const core_;
  tcp::socket socket_;
  net::steady_timer timer_;
  uint64_t timer_generation_ = 0;
  boost::beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  std::shared_ptr<BodyLease> lease_;
  std::shared_ptr<Exchange> exchange_;
  std::string writing_;
  std::string peer_;
  State state_ = State::kIdle;
  bool read_pending_ = false;  // the read that waits for a request or notices the client leaving
  bool timed_out_ = false, closed_ = false;
};

// ---- Exchange ----

void Exchange::AppendHead(int status, std::string_view content_type, const HttpHeaders& headers,
                          std::optional<size_t> length) {
  status_ = status;
  if (!length && !manner_.http11) manner_.keep_alive = false;  // the end of the body is the end of it all
  auto out = std::back_inserter(pending_);
  fmt::format_to(out, "HTTP/1.1 {} {}\r\nServer: fulger\r\nDate: {}\r\n", status, ReasonPhrase(status),
                 HttpDate());
  if (!content_type.empty()) fmt::format_to(out, "Content-Type: {}\r\n", content_type);
  if (length && status != 204) fmt::format_to(out, "Content-Length: {}\r\n", *length);
  if (!length && manner_.http11) fmt::format_to(out, "Transfer-Encoding: chunked\r\n");
  fmt::format_to(out, "Connection: {}\r\n", manner_.keep_alive ? "keep-alive" : "close");
  for (const auto& [name, value] : headers) {
    if (value.find_first_of("\r\n") != std::string::npos) continue;  // never a second header
    fmt::format_to(out, "{}: {}\r\n", name, value);
  }
  pending_ += "\r\n";
}

void Exchange::PostFlush() {
  if (flushing_ || session_ == nullptr) return;
  flushing_ = true;
  session_->Post(&Session::Flush);
}

void Exchange::Send(HttpResponse response) {
  std::function<void()> done;  // destroyed without the lock
  std::lock_guard lock(mu_);
  if (status_ != 0 || session_ == nullptr) return;
  AppendHead(response.status, response.content_type, response.headers, response.body.size());
  if (!manner_.head && response.status != 204) pending_ += response.body;
  ended_ = true;
  done.swap(on_gone_);
  PostFlush();
}

void Exchange::Begin(int status, std::string_view content_type, const HttpHeaders& headers) {
  std::lock_guard lock(mu_);
  if (status_ != 0 || session_ == nullptr) return;
  AppendHead(status, content_type, headers, std::nullopt);
  PostFlush();
}

bool Exchange::Write(std::string_view data) {
  std::lock_guard lock(mu_);
  if (session_ == nullptr || gone_) return false;
  if (manner_.head || data.empty()) return true;
  if (pending_.size() + in_flight_ + data.size() > max_unsent_) {
    LogInfo("{}: client is more than {} bytes behind: cut off", manner_.route, max_unsent_);
    gone_ = true;
    session_->Post(&Session::Close);
    return false;
  }
  if (manner_.http11) fmt::format_to(std::back_inserter(pending_), "{:x}\r\n", data.size());
  pending_ += data;
  if (manner_.http11) pending_ += "\r\n";
  PostFlush();
  return true;
}

void Exchange::End() {
  std::function<void()> done;
  std::lock_guard lock(mu_);
  if (session_ == nullptr || ended_ || status_ == 0) return;
  if (manner_.http11 && !manner_.head) pending_ += "0\r\n\r\n";
  ended_ = true;
  done.swap(on_gone_);
  PostFlush();
}

void Exchange::OnGone(std::function<void()> gone) {
  {
    std::lock_guard lock(mu_);
    if (ended_) return;
    if (session_ != nullptr) {
      on_gone_.swap(gone);
      return;
    }
  }
  gone();
}

void Exchange::Dropped() {
  bool begun = false;
  {
    std::lock_guard lock(mu_);
    if (ended_ || session_ == nullptr) return;
    begun = status_ != 0;
    if (begun) session_->Post(&Session::Close);
  }
  LogError("{}: a handler gave no complete answer", manner_.route);
  if (!begun) Send(ErrorResponse(500, "the server did not answer this request"));
}

std::string Exchange::TakePending() {
  std::lock_guard lock(mu_);
  std::string taken;
  taken.swap(pending_);
  in_flight_ = taken.size();
  if (taken.empty()) flushing_ = false;
  return taken;
}

void Exchange::Detach(bool client_gone) {
  std::function<void()> gone;
  std::shared_ptr<Session> session;  // released without the lock
  {
    std::lock_guard lock(mu_);
    session.swap(session_);
    gone.swap(on_gone_);
  }
  if (client_gone && gone) gone();
}

// ---- Session ----

void Session::WaitForRequest() {
  if (closed_) return;
  state_ = State::kIdle;
  if (core_->Stopping()) return Close();
  if (buffer_.size() > 0) {
    // A pipelined request is here already; the pending read must return before the parser reads.
    if (read_pending_) {
      error_code ec;
      socket_.cancel(ec);
    } else {
      ReadHeader();
    }
    return;
  }
  Arm(core_->options.idle_timeout);
  if (!read_pending_) StartRead();
}

void Session::StartRead() {
  read_pending_ = true;
  socket_.async_read_some(buffer_.prepare(kReadBytes), Bind(&Session::OnRead));
}

void Session::OnRead(error_code ec, size_t n) {
  read_pending_ = false;
  if (closed_) return;
  if (!ec) buffer_.commit(n);
  switch (state_) {
    case State::kIdle:
      if (ec && ec != net::error::operation_aborted) return Close();
      return buffer_.size() > 0 ? ReadHeader() : StartRead();
    case State::kBusy:
      if (ec && ec != net::error::operation_aborted) {
        // A client that sent all it had and waits for an answer that is complete still gets it.
        if (exchange_ == nullptr || !exchange_->ended()) Close();
        return;
      }
      if (buffer_.size() < kMaxPipelined) StartRead();
      return;
    case State::kLinger:
      if (ec) return Close();
      buffer_.clear();
      return StartRead();
    case State::kReading:
      return;
  }
}

void Session::ReadHeader() {
  state_ = State::kReading;
  timed_out_ = false;
  parser_.emplace();
  parser_->header_limit(core_->options.max_header_bytes);
  parser_->body_limit(core_->options.max_body_bytes);
  lease_ = std::make_shared<BodyLease>(core_);
  Arm(core_->options.header_timeout);
  http::async_read_header(socket_, buffer_, *parser_, Bind(&Session::OnHeader));
}

void Session::OnHeader(error_code ec, size_t /*n*/) {
  if (closed_) return;
  if (ec) return OnParseError(ec);
  const uint64_t length = parser_->content_length().value_or(0);
  if (!lease_->GrowTo(length)) return Fail(503, "too many large requests at once: try again later");
  Arm(core_->options.body_timeout + std::chrono::seconds(length >> 16));
  if (!parser_->is_done() && boost::beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
    return SendContinue();
  }
  ReadBody();
}

void Session::SendContinue() {
  writing_ = "HTTP/1.1 100 Continue\r\n\r\n";
  net::async_write(socket_, net::buffer(writing_), [self = shared_from_this()](error_code ec, size_t /*n*/) {
    if (self->closed_) return;
    if (ec) return self->Close();
    self->ReadBody();
  });
}

void Session::ReadBody() {
  if (parser_->is_done()) return Dispatch();
  parser_->eager(true);
  http::async_read_some(socket_, buffer_, *parser_, Bind(&Session::OnBody));
}

void Session::OnBody(error_code ec, size_t /*n*/) {
  if (closed_) return;
  if (ec) return OnParseError(ec);
  if (!lease_->GrowTo(parser_->get().body().size())) {
    return Fail(503, "too many large requests at once: try again later");
  }
  ReadBody();
}

void Session::OnParseError(error_code ec) {
  if (timed_out_) return Fail(408, "the request was not complete in time");
  if (ec == http::error::body_limit) {
    return Fail(413, fmt::format("the body is larger than {} bytes", core_->options.max_body_bytes));
  }
  if (ec == http::error::header_limit || ec == http::error::buffer_overflow) {
    return Fail(431, fmt::format("the headers are larger than {} bytes", core_->options.max_header_bytes));
  }
  if (ec == http::error::end_of_stream || ec == http::error::partial_message ||
      ec.category() != make_error_code(http::error::bad_method).category()) {
    return Close();  // the client left, or the network did
  }
  Fail(400, fmt::format("not HTTP/1.1: {}", ec.message()));
}

void Session::Dispatch() {
  Disarm();
  auto& message = parser_->get();
  // The lease goes with the request.
  auto request =
      std::shared_ptr<HttpRequest>(new HttpRequest, [lease = lease_](HttpRequest* r) { delete r; });
  lease_.reset();
  request->method = std::string(message.method_string());
  const std::string target(message.target());
  const size_t question = target.find('?');
  request->path = target.substr(0, question);
  if (question != std::string::npos) request->query = target.substr(question + 1);
  for (const auto& field : message) {
    request->headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
  }
  request->body = std::move(message.body());
  request->peer = peer_;
  Manner manner{.head = request->method == "HEAD",
                .http11 = message.version() >= 11,
                .keep_alive = parser_->keep_alive() && !core_->Stopping(),
                .route = core_->router.RouteOf(request->path)};
  parser_.reset();
  state_ = State::kBusy;
  exchange_ =
      std::make_shared<Exchange>(shared_from_this(), std::move(manner), core_->options.max_unsent_bytes);
  StartRead();
  try {
    core_->router.Handle(std::move(request), std::make_shared<Responder>(exchange_));
  } catch (const std::exception& e) {
    LogError("{}: handler threw: {}", exchange_->route(), e.what());
  }
}

void Session::Fail(int status, std::string_view message) {
  Disarm();
  parser_.reset();
  lease_.reset();
  state_ = State::kBusy;
  exchange_ = std::make_shared<Exchange>(shared_from_this(), Manner{.keep_alive = false},
                                         core_->options.max_unsent_bytes);
  exchange_->Send(ErrorResponse(status, message));
}

void Session::Flush() {
  if (closed_ || exchange_ == nullptr) return;
  const bool ended = exchange_->ended();  // before taking: what is taken now is then the rest
  writing_ = exchange_->TakePending();
  if (writing_.empty()) {
    if (ended) Finish();
    return;
  }
  Arm(core_->options.write_timeout);
  net::async_write(socket_, net::buffer(writing_),
                   [self = shared_from_this()](error_code ec, size_t n) { self->OnWritten(ec, n); });
}

void Session::OnWritten(error_code ec, size_t /*n*/) {
  if (closed_) return;
  Disarm();
  if (ec) return Close();
  Flush();
}

void Session::Finish() {
  std::shared_ptr<Exchange> done;
  done.swap(exchange_);
  const bool keep_alive = done->keep_alive();
  if (core_->options.on_answer) core_->options.on_answer(done->route(), done->status());
  done->Detach(/*client_gone=*/false);
  keep_alive ? WaitForRequest() : LingerClose();
}

// Closing with unread input would reset the connection, and the client might never see the answer.
void Session::LingerClose() {
  state_ = State::kLinger;
  error_code ec;
  socket_.shutdown(tcp::socket::shutdown_send, ec);
  Arm(kLingerTime);
  buffer_.clear();
  if (!read_pending_) StartRead();
}

void Session::Close() {
  if (closed_) return;
  closed_ = true;
  Disarm();
  error_code ec;
  socket_.close(ec);
  std::shared_ptr<Exchange> cut;
  cut.swap(exchange_);
  if (cut == nullptr) return;
  if (core_->options.on_answer) core_->options.on_answer(cut->route(), 499);
  cut->Detach(/*client_gone=*/true);
}

void Session::Arm(Duration after) {
  timer_.expires_after(std::chrono::duration_cast<net::steady_timer::duration>(after));
  timer_.async_wait([self = shared_from_this(), generation = ++timer_generation_](error_code ec) {
    if (!ec && generation == self->timer_generation_) self->OnTimeout();
  });
}

void Session::Disarm() {
  ++timer_generation_;
  timer_.cancel();
}

void Session::OnTimeout() {
  if (closed_) return;
  if (state_ != State::kReading) return Close();
  timed_out_ = true;  // the read returns, and its handler answers 408
  error_code ec;
  socket_.cancel(ec);
}

// ---- Server ----

class Server final : public HttpServer {
 public:
  Server(const HttpServerOptions& options, Router router)
      : core_(options, std::move(router)),
        acceptor_(core_.io),
        retry_(core_.io),
        work_(net::make_work_guard(core_.io)) {}
  ~Server() override { Stop(Duration(0)); }

  absl::Status Listen() {
    const HttpServerOptions& o = core_.options;
    error_code ec;
    const auto address = net::ip::make_address(o.address == "localhost" ? "127.0.0.1" : o.address, ec);
    if (ec) return InvalidArgument("listen address {}: not an IP address", o.address);
    const tcp::endpoint endpoint(address, o.port);
    acceptor_.open(endpoint.protocol(), ec);
    if (!ec) acceptor_.set_option(net::socket_base::reuse_address(true), ec);
    if (!ec && address.is_v6()) acceptor_.set_option(net::ip::v6_only(false), ec);
    if (!ec) acceptor_.bind(endpoint, ec);
    if (!ec) acceptor_.listen(net::socket_base::max_listen_connections, ec);
    if (ec == net::error::address_in_use) {
      return FailedPrecondition("listen address {}:{} is in use by another process", o.address, o.port);
    }
    if (ec == net::error::access_denied) {
      return FailedPrecondition("listen address {}:{}: {} (ports below 1024 need privileges)", o.address,
                                o.port, ec.message());
    }
    if (ec) return InvalidArgument("listen address {}:{}: {}", o.address, o.port, ec.message());
    port_ = acceptor_.local_endpoint().port();
    Accept();
    for (int i = 0; i < o.threads; ++i) threads_.emplace_back([this] { core_.io.run(); });
    return absl::OkStatus();
  }

  uint16_t port() const override { return port_; }
  int64_t connections() const override {
    std::lock_guard lock(core_.mu);
    return static_cast<int64_t>(core_.sessions.size());
  }

  void Stop(Duration grace) override {
    std::lock_guard stop_lock(stop_mu_);
    if (threads_.empty()) return;
    {
      std::lock_guard lock(core_.mu);
      core_.stopping = true;
    }
    net::post(acceptor_.get_executor(), [this] {
      error_code ec;
      acceptor_.close(ec);
      retry_.cancel();
    });
    PostToAll(&Session::CloseIfIdle);
    {
      std::unique_lock lock(core_.mu);
      core_.changed.wait_for(lock, grace, [&] { return core_.sessions.empty(); });
    }
    PostToAll(&Session::Close);
    work_.reset();
    for (auto& t : threads_) t.join();
    threads_.clear();
  }

 private:
  void PostToAll(void (Session::*method)()) {
    std::vector<std::shared_ptr<Session>> live;  // posted to, and released, without the lock
    {
      std::lock_guard lock(core_.mu);
      for (const auto& [raw, weak] : core_.sessions) {
        if (auto session = weak.lock()) live.push_back(std::move(session));
      }
    }
    for (const auto& session : live) session->Post(method);
  }

  void Accept() {
    acceptor_.async_accept(net::make_strand(core_.io), [this](error_code ec, tcp::socket socket) {
      if (ec == net::error::operation_aborted || !acceptor_.is_open()) return;
      if (ec) {
        LogWarn("accept: {}: trying again in 100 ms", ec.message());  // out of descriptors, mostly
        retry_.expires_after(std::chrono::milliseconds(100));
        retry_.async_wait([this](error_code stopped) {
          if (!stopped) Accept();
        });
        return;
      }
      Welcome(std::move(socket));
      Accept();
    });
  }

  void Welcome(tcp::socket socket) {
    error_code ec;
    socket.set_option(tcp::no_delay(true), ec);
    auto session = std::make_shared<Session>(&core_, std::move(socket));
    bool full = false;
    {
      std::lock_guard lock(core_.mu);
      full = core_.stopping || static_cast<int64_t>(core_.sessions.size()) >= core_.options.max_connections;
      if (!full) core_.sessions.emplace(session.get(), session);
    }
    if (full) {
      LogWarn("{} connections already: a new one is refused", core_.options.max_connections);
      return;  // closes it
    }
    session->Post(&Session::Start);
  }

  mutable Core core_;
  tcp::acceptor acceptor_;
  net::steady_timer retry_;
  net::executor_work_guard<net::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
  std::mutex stop_mu_;
  uint16_t port_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              Router router) {
  auto server = std::make_unique<Server>(options, std::move(router));
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace fulger
