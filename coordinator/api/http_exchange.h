// The answer to one HTTP request while it is being made: handlers fill it from any thread, the connection
// drains it. Knows no sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "coordinator/api/http.h"

namespace fulger {

// The connection, as its exchange sees it. Called from any thread, with the exchange's lock held.
class ExchangeOwner {
 public:
  virtual ~ExchangeOwner() = default;
  virtual void PostFlush() = 0;  // TakePending has something
  virtual void PostClose() = 0;
};

// How the client wants to be answered.
struct Manner {
  bool head = false;  // no body
  bool http11 = true;
  bool keep_alive = true;
  std::string route = "other";
  std::string request_id{};  // goes back to the client, whoever answers; empty: it gave none
};

// The answer to one request while it is being made. Any thread; the session drains it on its strand.
class Exchange {
 public:
  Exchange(std::shared_ptr<ExchangeOwner> owner, Manner manner, uint64_t max_unsent)
      : manner_(std::move(manner)), max_unsent_(max_unsent), owner_(std::move(owner)) {}

  void Send(HttpResponse response);
  void Begin(int status, std::string_view content_type, const HttpHeaders& headers);
  bool Write(std::string_view data);
  void AllowBehind(size_t bytes);
  void End();
  void OnGone(std::function<void()> gone);
  void Dropped();

  // The connection. The bytes to write next; empty: nothing for now, or the end (ended()).
  std::string TakePending();
  bool ended() const {
    std::lock_guard lock(mu_);
    return ended_;
  }
  int status() const {
    std::lock_guard lock(mu_);
    return status_;
  }
  // The connection; written at Begin or Send, read after the end.
  bool keep_alive() const {
    std::lock_guard lock(mu_);
    return manner_.keep_alive;
  }
  const std::string& route() const { return manner_.route; }
  // The connection, once: the connection has nothing more to do with this exchange.
  void Detach(bool client_gone);

 private:
  void AppendHead(int status, std::string_view content_type, const HttpHeaders& headers,
                  std::optional<size_t> length);
  void PostFlush();

  mutable std::mutex mu_;
  Manner manner_;
  uint64_t max_unsent_;
  std::shared_ptr<ExchangeOwner> owner_;  // keeps the connection until Detach
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
  void AllowBehind(size_t bytes) override { exchange_->AllowBehind(bytes); }
  void End() override { exchange_->End(); }
  void OnGone(std::function<void()> gone) override { exchange_->OnGone(std::move(gone)); }

 private:
  std::shared_ptr<Exchange> exchange_;
};

}  // namespace fulger
