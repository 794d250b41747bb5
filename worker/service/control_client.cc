#include "worker/service/control_client.h"

#include <grpcpp/grpcpp.h>

#include <mutex>

#include "base/log.h"
#include "fulger/v1/control.grpc.pb.h"
#include "worker/service/reach.h"

namespace fulger {
namespace {

constexpr int kKeepaliveMs = 2000;
constexpr auto kDialLogInterval = std::chrono::seconds(5);
constexpr auto kReachDeadline = std::chrono::milliseconds(2000);

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
                                                                      const std::string& who,
                                                                      std::chrono::milliseconds deadline) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // nodes have http_proxy set, for the world outside
  arguments.SetMaxReceiveMessageSize(-1);
  const auto channel = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  const auto end = std::chrono::system_clock::now() + deadline;
  while (!channel->WaitForConnected(std::min(end, std::chrono::system_clock::now() + kDialLogInterval))) {
    const absl::Status reached = Reach(address, kReachDeadline);
    const std::string why = reached.ok()
                                ? "something listens there that is not this coordinator's control port"
                                : Message(reached);
    if (std::chrono::system_clock::now() >= end) {
      return DeadlineExceeded(
          "rendezvous: {} cannot join the coordinator at {} within {} s: {}. Start the coordinator with "
          "--control "
          "0.0.0.0:PORT, give its address to --coordinator, open that port between the hosts",
          who, address, deadline.count() / 1000, why);
    }
    LogInfo("rendezvous: {} waits for the coordinator at {}: {}", who, address, why);
  }
  return std::make_unique<Client>(channel);
}

}  // namespace fulger
