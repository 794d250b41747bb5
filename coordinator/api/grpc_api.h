// The public gRPC service (proto/fulger/v1/generate.proto) over a Frontend, with the standard health service
// and reflection.
//
// Threads: gRPC's own for the wire, a pool of this class for templates, tokens and pictures. Tokens are
// queued on the engine's thread and written one at a time; a client whose queue is full is cut off and its
// request cancelled.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/api/api_keys.h"
#include "coordinator/frontend/frontend.h"

namespace fulger {

class ServerMetrics;

struct GrpcApiOptions {
  std::string address = "127.0.0.1:50051";  // port 0: any free one
  int threads = 4;
  size_t max_waiting = 512;         // requests that wait for a thread; beyond: RESOURCE_EXHAUSTED
  size_t max_unsent_tokens = 8192;  // of one request
  int max_message_bytes = 64 << 20;
  const ApiKeyRing* keys = nullptr;  // as for HTTP, in the metadata "authorization"; null: open to all
  // PEM files of TLS, both or neither; read again when they change.
  std::string tls_certificate{}, tls_key{};
  std::string layout{}, fingerprint{};                // what GetModel says besides the frontend's card
  Duration stall_timeout = std::chrono::seconds(60);  // as OpenAiOptions
  Duration health_interval = std::chrono::milliseconds(500);  // how often the health service looks
};

class GrpcApi {
 public:
  // FAILED_PRECONDITION when the address cannot be bound. Frontend and metrics must outlive the server.
  static absl::StatusOr<std::unique_ptr<GrpcApi>> Start(const GrpcApiOptions& options, Frontend* frontend,
                                                        ServerMetrics* metrics);
  virtual ~GrpcApi() = default;  // as Stop(0)

  virtual int port() const = 0;
  // Refuses new calls, waits until running ones ended or `grace` passed, then cancels the rest. Idempotent.
  virtual void Stop(Duration grace) = 0;
};

}  // namespace fulger
