#include "coordinator/api/http_server.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <algorithm>
#include <boost/asio/ip/v6_only.hpp>
#include <boost/asio/strand.hpp>
#include <cstdint>
#include <ctime>
#include <thread>
#include <vector>

#include "base/log.h"
#include "coordinator/api/http_session.h"

namespace fulger {
namespace http_internal {
namespace {

// The end of whatever ends first in the chain, in seconds since 1970.
int64_t ExpiryOf(SSL_CTX* context) {
  int64_t first = INT64_MAX;
  const auto look = [&first](const X509* certificate) {
    std::tm end{};
    if (certificate != nullptr && ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) == 1) {
      first = std::min<int64_t>(first, ::timegm(&end));
    }
  };
  look(SSL_CTX_get0_certificate(context));
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(context, &chain);
  for (int i = 0; i < sk_X509_num(chain); ++i) look(sk_X509_value(chain, i));
  return first;
}

class Server final : public HttpServer {
 public:
  Server(const HttpServerOptions& options, Router router)
      : core_(options, std::move(router)),
        acceptor_(core_.io),
        retry_(core_.io),
        work_(net::make_work_guard(core_.io)) {}
  ~Server() override { Stop(Duration(0)); }

  absl::Status ReloadTls() override {
    const HttpServerOptions& o = core_.options;
    if (o.tls_certificate.empty() != o.tls_key.empty()) {
      return InvalidArgument("TLS needs both a certificate and a key");
    }
    if (o.tls_certificate.empty()) return absl::OkStatus();
    auto context = std::make_shared<net::ssl::context>(net::ssl::context::tls_server);
    error_code ec;
    context->set_options(
        net::ssl::context::default_workarounds | net::ssl::context::no_tlsv1 | net::ssl::context::no_tlsv1_1,
        ec);
    if (!ec) context->use_certificate_chain_file(o.tls_certificate, ec);
    if (ec) return InvalidArgument("TLS certificate {}: {}", o.tls_certificate, ec.message());
    context->use_private_key_file(o.tls_key, net::ssl::context::pem, ec);
    if (ec)
      return InvalidArgument("TLS key {} of certificate {}: {}", o.tls_key, o.tls_certificate, ec.message());
    const int64_t expiry = ExpiryOf(context->native_handle());
    std::lock_guard lock(core_.mu);
    tls_ = std::move(context);
    tls_expiry_ = expiry;
    return absl::OkStatus();
  }
  int64_t tls_expiry() const override {
    std::lock_guard lock(core_.mu);
    return tls_expiry_;
  }

  absl::Status Listen() {
    RETURN_IF_ERROR(ReloadTls());
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

  // With core_.mu. Connections that were opened and left, or kept for later, make room for those that want
  // something. Sessions come out by `touched`, too: none may be released while the lock is held.
  Session* LongestIdle(std::vector<std::shared_ptr<Session>>* touched) {
    while (true) {
      std::pair<Session*, int64_t> longest{nullptr, 0};
      std::weak_ptr<Session> owner;
      for (const auto& [raw, weak] : core_.sessions) {
        const int64_t since = raw->idle_since();
        if (since == 0 || (longest.first != nullptr && since >= longest.second)) continue;
        longest = {raw, since};
        owner = weak;
      }
      if (longest.first == nullptr) return nullptr;
      const bool taken = longest.first->TakeIdle();
      touched->push_back(owner.lock());
      if (taken && touched->back() != nullptr) return longest.first;
    }
  }

  void Welcome(tcp::socket socket) {
    error_code ec;
    socket.set_option(tcp::no_delay(true), ec);
    std::shared_ptr<net::ssl::context> tls;
    {
      std::lock_guard lock(core_.mu);
      tls = tls_;
    }
    auto session = std::make_shared<Session>(&core_, std::move(socket), std::move(tls));
    bool full = false;
    Session* given_up = nullptr;
    std::vector<std::shared_ptr<Session>> touched;
    {
      std::lock_guard lock(core_.mu);
      full = static_cast<int64_t>(core_.sessions.size()) >= core_.options.max_connections;
      if (full) given_up = LongestIdle(&touched);
      full = core_.stopping || (full && given_up == nullptr);
      if (!full) core_.sessions.emplace(session.get(), session);
    }
    if (given_up != nullptr) given_up->Post(&Session::CloseIfIdle);
    if (full) {
      LogWarn("{} connections already: a new one is refused", core_.options.max_connections);
      return;  // closes it
    }
    session->Post(&Session::Start);
  }

  mutable Core core_;
  std::shared_ptr<net::ssl::context> tls_;  // with core_.mu; of connections to come; null: plain
  int64_t tls_expiry_ = 0;                  // with core_.mu
  tcp::acceptor acceptor_;
  net::steady_timer retry_;
  net::executor_work_guard<net::io_context::executor_type> work_;
  std::vector<std::thread> threads_;
  std::mutex stop_mu_;
  uint16_t port_ = 0;
};

}  // namespace
}  // namespace http_internal

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpServerOptions& options,
                                                              Router router) {
  auto server = std::make_unique<http_internal::Server>(options, std::move(router));
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<HttpServer>(std::move(server));
}

}  // namespace fulger
