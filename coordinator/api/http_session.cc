#include "coordinator/api/http_session.h"

#include <fmt/format.h>

#include <boost/asio/write.hpp>
#include <boost/beast/http/read.hpp>
#include <exception>

#include "base/log.h"
#include "coordinator/api/request_log.h"

namespace fulger::http_internal {

namespace http = boost::beast::http;

namespace {

constexpr size_t kMaxPipelined = 64 << 10;
constexpr size_t kReadBytes = 16 << 10;
constexpr Duration kLingerTime = std::chrono::seconds(2);

int64_t Ticks() { return std::chrono::steady_clock::now().time_since_epoch().count(); }

}  // namespace

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

Session::Session(Core* core, tcp::socket socket, std::shared_ptr<net::ssl::context> tls)
    : core_(core),
      wire_(std::move(socket), std::move(tls)),
      timer_(wire_.get_executor()),
      buffer_(core->options.max_header_bytes + kMaxPipelined + kReadBytes),
      idle_since_(Ticks()) {
  error_code ec;
  const tcp::endpoint peer = wire_.socket().remote_endpoint(ec);
  if (!ec) peer_ = fmt::format("{}:{}", peer.address().to_string(), peer.port());
}
Session::~Session() {
  std::lock_guard lock(core_->mu);
  core_->sessions.erase(this);
  core_->changed.notify_all();
}

void Session::Start() {
  if (!wire_.secure()) return WaitForRequest();
  Arm(core_->options.header_timeout);
  wire_.AsyncHandshake([self = shared_from_this()](error_code ec) {
    if (self->closed_) return;
    self->Disarm();
    ec ? self->Close() : self->WaitForRequest();
  });
}

void Session::WaitForRequest() {
  if (closed_) return;
  state_ = State::kIdle;
  idle_since_ = Ticks();
  if (core_->Stopping() || (no_more_input_ && buffer_.size() == 0)) return Close();
  if (buffer_.size() > 0) {
    // A pipelined request is here already; the pending read must return before the parser reads.
    if (read_pending_) {
      error_code ec;
      wire_.socket().cancel(ec);
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
  wire_.async_read_some(buffer_.prepare(kReadBytes), Bind(&Session::OnRead));
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
        if (exchange_ == nullptr || !exchange_->ended()) return Close();
        no_more_input_ = true;  // said once: another read would wait for ever
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
  idle_since_ = 0;
  timed_out_ = false;
  parser_.emplace();
  parser_->header_limit(core_->options.max_header_bytes);
  parser_->body_limit(core_->options.max_body_bytes);
  lease_ = std::make_shared<BodyLease>(core_);
  Arm(core_->options.header_timeout);
  http::async_read_header(wire_, buffer_, *parser_, Bind(&Session::OnHeader));
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
  net::async_write(wire_, net::buffer(writing_), [self = shared_from_this()](error_code ec, size_t /*n*/) {
    if (self->closed_) return;
    if (ec) return self->Close();
    self->ReadBody();
  });
}

void Session::ReadBody() {
  if (parser_->is_done()) return Dispatch();
  parser_->eager(true);
  http::async_read_some(wire_, buffer_, *parser_, Bind(&Session::OnBody));
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
                .route = core_->router.RouteOf(request->path),
                .request_id = std::string(request->RequestId())};
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
  LogRequest({.peer = peer_, .status = std::to_string(status), .error = std::string(message)});
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
  net::async_write(wire_, net::buffer(writing_),
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
  if (no_more_input_) return Close();
  state_ = State::kLinger;
  error_code ec;
  wire_.socket().shutdown(tcp::socket::shutdown_send, ec);
  Arm(kLingerTime);
  buffer_.clear();
  if (!read_pending_) StartRead();
}

void Session::Close() {
  if (closed_) return;
  closed_ = true;
  Disarm();
  timer_.cancel();  // it holds this session
  error_code ec;
  wire_.socket().close(ec);
  std::shared_ptr<Exchange> cut;
  cut.swap(exchange_);
  if (cut == nullptr) return;
  if (core_->options.on_answer) core_->options.on_answer(cut->route(), 499);
  cut->Detach(/*client_gone=*/true);
}

// A stream sets a limit for each of its tokens and lifts it at once. So that this costs no timer, the one
// that waits is let be, and looks at the limit when it fires.
void Session::Arm(Duration after) {
  deadline_ = Clock::now() + after;
  if (!timer_waits_ || timer_.expiry() > *deadline_) WaitUntil(*deadline_);
}

void Session::Disarm() { deadline_.reset(); }

void Session::WaitUntil(Clock::time_point then) {
  timer_.expires_at(then);  // the wait before this one, if any, ends with an error
  timer_waits_ = true;
  timer_.async_wait([self = shared_from_this(), generation = ++timer_generation_](error_code ec) {
    if (!ec && generation == self->timer_generation_) self->OnTimer();
  });
}

void Session::OnTimer() {
  timer_waits_ = false;
  if (!deadline_) return;
  if (Clock::now() < *deadline_) return WaitUntil(*deadline_);
  deadline_.reset();
  OnTimeout();
}

void Session::OnTimeout() {
  if (closed_) return;
  if (state_ != State::kReading) return Close();
  timed_out_ = true;  // the read returns, and its handler answers 408
  error_code ec;
  wire_.socket().cancel(ec);
}

}  // namespace fulger::http_internal
