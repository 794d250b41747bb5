// The worker's side of the Join stream.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/status.h"
#include "fulger/v1/control.pb.h"

namespace fulger {

class ControlClient {
 public:
  // Dials until the coordinator answers or `deadline` has passed; what is in the way is logged meanwhile.
  // `who`: this worker in messages, with its host.
  static absl::StatusOr<std::unique_ptr<ControlClient>> Connect(const std::string& address,
                                                                const std::string& who,
                                                                std::chrono::milliseconds deadline);
  virtual ~ControlClient() = default;
  // Thread-safe. False when the stream is gone.
  virtual bool Send(const v1::WorkerMessage& message) = 0;
  // One thread. False when the coordinator hung up.
  virtual bool Receive(v1::CoordinatorMessage* message) = 0;
  // Thread-safe: makes Receive return false.
  virtual void Cancel() = 0;
};

}  // namespace fulger
