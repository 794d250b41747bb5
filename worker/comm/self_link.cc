#include "worker/comm/self_link.h"

#include <utility>

#include "worker/comm/checks.h"
#include "worker/comm/message_queue.h"

namespace fulger {
namespace {

class SelfLink final : public Link {
 public:
  SelfLink(std::string name, std::shared_ptr<const Failure> failure)
      : name_(std::move(name)), failure_(std::move(failure)) {}

  absl::Status Send(Stream& stream, const TensorView& data) override {
    const Where where{"link", name_, "send"};
    RETURN_IF_ERROR(failure_->Check(where));
    RETURN_IF_ERROR(CheckMessage(where, data));
    RETURN_IF_ERROR(stream.Synchronize());
    queue_.Push(CopyIn(pool_, data.raw(), static_cast<size_t>(data.bytes())));
    return absl::OkStatus();
  }

  absl::Status Recv(Stream& stream, const MutTensorView& data) override {
    const Where where{"link", name_, "receive"};
    RETURN_IF_ERROR(failure_->Check(where));
    RETURN_IF_ERROR(CheckMessage(where, data));
    if (queue_.empty()) return Internal("{}: nothing was sent to oneself", where.ToString());
    const size_t bytes = static_cast<size_t>(data.bytes());
    RETURN_IF_ERROR(CheckMessageSize(where, bytes, queue_.front_bytes()));
    RETURN_IF_ERROR(stream.Synchronize());
    MessageBuffer message = queue_.Pop();
    if (bytes > 0) std::memcpy(data.mut_raw(), message.data.get(), bytes);
    pool_.Give(std::move(message));
    return absl::OkStatus();
  }

  absl::StatusOr<bool> Ready() override {
    RETURN_IF_ERROR(failure_->Check(Where{"link", name_, "ready"}));
    return !queue_.empty();
  }

 private:
  const std::string name_;
  const std::shared_ptr<const Failure> failure_;
  MessageQueue queue_;
  BufferPool pool_;
};

}  // namespace

std::unique_ptr<Link> MakeSelfLink(std::string name, std::shared_ptr<const Failure> failure) {
  return std::make_unique<SelfLink>(std::move(name), std::move(failure));
}

}  // namespace fulger
