#include "worker/service/control_client.h"

#include <grpcpp/grpcpp.h>

#include <mutex>

#include "base/log.h"
#include "fulger/v1/control.grpc.pb.h"

namespace fulger {
namespace {

constexpr int kKeepaliveMs = 2000;
constexpr auto kDialLogInterval = std::chrono::seconds(5);

class Client final : public ControlClient {
 public:
  explicit Client(std::shared_ptr<grpc::Channel> channel)
      : stub_(v1::Control::NewStub(channel)), stream_(stub_->Join(&context_)) {}

  ~Client() override {
    context_.TryCancel();
    stream_->Finish();
  }

  bool Send(const v1::WorkerMessage& message) override {
    std::lock_guard lock(mu_);
    return stream_->Write(message);
  }
  bool Receive(v1::CoordinatorMessage* message) override { return stream_->Read(message); }
  void Cancel() override { context_.TryCancel(); }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::Control::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>> stream_;
  std::mutex mu_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ControlClient>> ControlClient::Connect(const std::string& address,
                                                                      std::chrono::milliseconds deadline) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetMaxReceiveMessageSize(-1);
  const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  const auto end = std::chrono::system_clock::now() + deadline;
  while (!channel->WaitForConnected(std::min(end, std::chrono::system_clock::now() + kDialLogInterval))) {
    if (std::chrono::system_clock::now() >= end) {
      return DeadlineExceeded(
          "rendezvous: the coordinator at {} did not answer within {} s: is it running, is the address "
          "right, can this "
          "host reach it?",
          address, deadline.count() / 1000);
    }
    LogInfo("rendezvous: waiting for the coordinator at {}", address);
  }
  return std::make_unique<Client>(channel);
}

}  // namespace fulger
