#include "coordinator/cluster/join_server.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <deque>
#include <mutex>
#include <utility>

#include "fulger/v1/control.grpc.pb.h"

namespace fulger {
namespace {

// A dead host must be noticed in seconds, not by TCP's own timers.
constexpr int kKeepaliveMs = 2000;

// Keeps itself alive until OnDone: gRPC calls it from its own threads.
class Stream final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>,
                     public WorkerConnection,
                     public std::enable_shared_from_this<Stream> {
 public:
  Stream(JoinHandler* handler, std::string peer) : handler_(handler), peer_(std::move(peer)) {}

  void Begin() {
    self_ = shared_from_this();
    StartRead(&incoming_);
  }

  void Send(std::shared_ptr<const v1::CoordinatorMessage> message) override {
    std::lock_guard lock(mu_);
    if (finishing_ || closed_) return;
    outgoing_.push_back(std::move(message));
    if (outgoing_.size() == 1) StartWrite(outgoing_.front().get());
  }

  void Finish() override {
    std::lock_guard lock(mu_);
    if (finishing_) return;
    finishing_ = true;
    if (outgoing_.empty()) FinishLocked();
  }

  const std::string& peer() const override { return peer_; }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) {
      Close();
      return;
    }
    handler_->OnMessage(self_, incoming_);
    StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mu_);
    outgoing_.pop_front();
    if (!ok) outgoing_.clear();
    if (!outgoing_.empty()) {
      StartWrite(outgoing_.front().get());
    } else if (finishing_ || closed_) {
      FinishLocked();
    }
  }

  // The worker hung up or the connection broke.
  void Close() {
    {
      std::lock_guard lock(mu_);
      if (closed_) return;
      closed_ = true;
      if (outgoing_.empty()) FinishLocked();
    }
    handler_->OnClosed(self_);
  }

  void FinishLocked() {
    if (finished_) return;
    finished_ = true;
    grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>::Finish(grpc::Status::OK);
  }

  void OnDone() override {
    Close();
    self_.reset();
  }

  JoinHandler* handler_;
  const std::string peer_;
  std::shared_ptr<Stream> self_;
  v1::WorkerMessage incoming_;
  std::mutex mu_;
  std::deque<std::shared_ptr<const v1::CoordinatorMessage>> outgoing_;
  bool finishing_ = false;  // no more sends; finish when the queue is empty
  bool closed_ = false;     // the read side ended
  bool finished_ = false;   // Finish was handed to gRPC
};

class Server final : public JoinServer, public v1::Control::CallbackService {
 public:
  explicit Server(JoinHandler* handler) : handler_(handler) {}
  ~Server() override {
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }

  absl::Status Listen(const std::string& address) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kKeepaliveMs / 4);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    const bool is_unix = address.starts_with("unix:");
    if (server_ == nullptr || (port == 0 && !is_unix)) {
      return Unavailable("control listener: cannot listen on {} (is the port in use?)", address);
    }
    address_ = is_unix ? address : address.substr(0, address.rfind(':') + 1) + std::to_string(port);
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

  grpc::ServerBidiReactor<v1::WorkerMessage, v1::CoordinatorMessage>* Join(
      grpc::CallbackServerContext* context) override {
    auto stream = std::make_shared<Stream>(handler_, context->peer());
    stream->Begin();
    return stream.get();
  }

 private:
  JoinHandler* handler_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<JoinServer>> JoinServer::Start(const std::string& address,
                                                              JoinHandler* handler) {
  auto server = std::make_unique<Server>(handler);
  RETURN_IF_ERROR(server->Listen(address));
  return server;
}

}  // namespace fulger
