// The control listener: workers dial it and keep one stream each for their whole life. Bytes only; what the
// messages mean is the Replica's business.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "fulger/v1/control.pb.h"

namespace fulger {

// One worker's stream. Thread-safe. Sends are queued and never block; after the stream closed they are
// dropped.
class WorkerConnection {
 public:
  virtual ~WorkerConnection() = default;
  virtual void Send(std::shared_ptr<const v1::CoordinatorMessage> message) = 0;
  // Sends what is queued, then ends the stream.
  virtual void Finish() = 0;
  // For logs: the address that dialled.
  virtual const std::string& peer() const = 0;
};

// Calls come from gRPC threads, those of one connection in order; they must not block.
class JoinHandler {
 public:
  virtual ~JoinHandler() = default;
  virtual void OnMessage(const std::shared_ptr<WorkerConnection>& from, const v1::WorkerMessage& message) = 0;
  virtual void OnClosed(const std::shared_ptr<WorkerConnection>& from) = 0;
};

class JoinServer {
 public:
  // `address`: HOST:PORT (port 0 picks one) or unix:PATH. The handler must outlive the server.
  static absl::StatusOr<std::unique_ptr<JoinServer>> Start(const std::string& address, JoinHandler* handler);
  virtual ~JoinServer() = default;
  // What workers dial: `address` with the real port.
  virtual const std::string& address() const = 0;
};

}  // namespace fulger
