// An HTTP/1.1 server for a few thousand connections, most of them streams that stay open for minutes.
//
// Threads: a few, shared by all connections; each connection is one strand. Handlers run on them and hand
// long work to a pool of their own. A connection whose client leaves is noticed at once, because the server
// always reads. Bodies, headers, pipelined bytes and unsent output are bounded per connection, large bodies
// for all connections together.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/api/http.h"

namespace fulger {

struct HttpServerOptions {
  std::string address = "127.0.0.1";
  uint16_t port = 8000;  // 0: any free one
  int threads = 2;
  int64_t max_connections = 8192;  // beyond: the one that is idle for longest is closed; none is: the new one
  uint64_t max_body_bytes = uint64_t{64} << 20;       // beyond: 413
  uint64_t max_bodies_bytes = uint64_t{1} << 30;      // of all requests being read or handled; beyond: 503
  uint32_t max_header_bytes = 32U << 10;              // beyond: 431
  uint64_t max_unsent_bytes = uint64_t{1} << 20;      // of one stream; beyond, the client is cut off
  Duration idle_timeout = std::chrono::seconds(120);  // between requests of one connection
  Duration header_timeout = std::chrono::seconds(10);
  Duration body_timeout = std::chrono::seconds(30);   // plus a second for each 64 KiB of body
  Duration write_timeout = std::chrono::seconds(60);  // for what is being written to make progress
  // PEM files: HTTPS with these, both or neither. The certificate's file holds its chain.
  std::string tls_certificate{}, tls_key{};
  // Called on a server thread after each answer; path as in Router::RouteOf.
  std::function<void(const std::string& route, int status)> on_answer{};
};

class HttpServer {
 public:
  // Binds and serves. FAILED_PRECONDITION: the address is in use; INVALID_ARGUMENT: it is none of this
  // machine's, or the files of TLS are none. Whatever the handlers use must outlive the server.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpServerOptions& options, Router router);
  virtual ~HttpServer() = default;  // as Stop(0)

  virtual uint16_t port() const = 0;
  virtual int64_t connections() const = 0;
  // Reads the files of TLS again, for connections to come. On an error those read before stay.
  virtual absl::Status ReloadTls() = 0;
  // When the first certificate of the chain in use ends, in seconds since 1970; 0 without TLS.
  virtual int64_t tls_expiry() const = 0;
  // Accepts no more, closes idle connections, waits until answers under way are complete or `grace` passed,
  // then cuts the rest off (their OnGone runs). Returns when no handler runs any more. Idempotent.
  virtual void Stop(Duration grace) = 0;
};

}  // namespace fulger
