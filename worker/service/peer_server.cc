#include "worker/service/peer_server.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

#include "base/bounded_queue.h"
#include "fulger/v1/control.grpc.pb.h"
#include "worker/comm/rendezvous.h"

namespace fulger {
namespace {

constexpr size_t kForwardQueue = 4096;
constexpr int kOwn = 0;  // this worker's part of its board, which has no other
// Of one call: nobody who forgot a deadline keeps a thread here.
constexpr auto kShortestFetch = std::chrono::milliseconds(0);
constexpr auto kLongestFetch = std::chrono::milliseconds(10000);

std::shared_ptr<grpc::Channel> Channel(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // nodes have http_proxy set, for the world outside
  arguments.SetMaxReceiveMessageSize(-1);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

class Server final : public PeerServer, public v1::Peer::Service {
 public:
  ~Server() override { Stop(); }

  absl::Status Listen(const std::string& host) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort(host + ":0", grpc::InsecureServerCredentials(), &port);
    builder.SetMaxReceiveMessageSize(-1);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port == 0) return Unavailable("peer listener: cannot listen on {}", host);
    address_ = host + ":" + std::to_string(port);
    return absl::OkStatus();
  }

  const std::string& address() const override { return address_; }

  absl::Status WaitForFollowers(int count, std::chrono::milliseconds deadline) override {
    std::unique_lock lock(mu_);
    const auto enough = [&] { return static_cast<int>(followers_.size()) >= count; };
    if (joined_.wait_for(lock, deadline, enough)) return absl::OkStatus();
    return DeadlineExceeded("{} of {} ranks of this stage follow index 0 after {} s", followers_.size(),
                            count, deadline.count() / 1000);
  }

  void Forward(const v1::PeerMessage& message) override {
    auto shared = std::make_shared<const v1::PeerMessage>(message);
    std::lock_guard lock(mu_);
    for (const auto& queue : followers_) queue->TryPush(shared);
  }

  absl::Status Publish(const std::string& key, const std::string& value) override {
    return published_.Publish(kOwn, key, value);
  }

  void Stop() override {
    published_.Abort(Unavailable("stopping"));
    {
      std::lock_guard lock(mu_);
      stopped_ = true;
      for (const auto& queue : followers_) queue->Close();
    }
    if (server_ != nullptr) server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
  }

  grpc::Status Fetch(grpc::ServerContext* context, const v1::FetchRequest* request,
                     v1::FetchReply* reply) override {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(context->deadline() -
                                                                            std::chrono::system_clock::now());
    auto value = published_.Fetch(kOwn, request->key(), std::clamp(left, kShortestFetch, kLongestFetch));
    if (!value.ok()) {
      return {static_cast<grpc::StatusCode>(value.status().code()), Message(value.status())};
    }
    reply->set_value(*std::move(value));
    return grpc::Status::OK;
  }

  grpc::Status Follow(grpc::ServerContext*, const v1::FollowRequest*,
                      grpc::ServerWriter<v1::PeerMessage>* writer) override {
    auto queue = std::make_shared<Queue>(kForwardQueue);
    {
      std::lock_guard lock(mu_);
      if (stopped_) return {grpc::StatusCode::UNAVAILABLE, "stopping"};
      followers_.push_back(queue);
    }
    joined_.notify_all();
    while (auto message = queue->Pop()) {
      if (!writer->Write(**message)) break;
    }
    return grpc::Status::OK;
  }

 private:
  using Queue = BoundedQueue<std::shared_ptr<const v1::PeerMessage>>;

  std::string address_;
  RendezvousBoard published_;
  std::unique_ptr<grpc::Server> server_;
  std::mutex mu_;
  std::condition_variable joined_;
  std::vector<std::shared_ptr<Queue>> followers_;
  bool stopped_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<PeerServer>> PeerServer::Start(const std::string& host) {
  auto server = std::make_unique<Server>();
  RETURN_IF_ERROR(server->Listen(host));
  return server;
}

absl::StatusOr<std::string> FetchFromPeer(const std::string& address, const std::string& key,
                                          std::chrono::milliseconds deadline) {
  const auto stub = v1::Peer::NewStub(Channel(address));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + deadline);
  context.set_wait_for_ready(true);
  v1::FetchRequest request;
  request.set_key(key);
  v1::FetchReply reply;
  const grpc::Status status = stub->Fetch(&context, request, &reply);
  if (status.ok()) return reply.value();
  return MakeStatus(static_cast<absl::StatusCode>(status.error_code()), "rendezvous: \"{}\" from {}: {}", key,
                    address, status.error_message());
}

absl::Status FollowPeer(const std::string& address, int rank, std::chrono::milliseconds connect_deadline,
                        const std::function<void(const v1::PeerMessage&)>& on_message) {
  const auto channel = Channel(address);
  if (!channel->WaitForConnected(std::chrono::system_clock::now() + connect_deadline)) {
    return DeadlineExceeded("rank {} cannot reach index 0 of its stage at {} within {} s", rank, address,
                            connect_deadline.count() / 1000);
  }
  const auto stub = v1::Peer::NewStub(channel);
  grpc::ClientContext context;
  v1::FollowRequest request;
  request.set_rank(rank);
  const auto reader = stub->Follow(&context, request);
  v1::PeerMessage message;
  while (reader->Read(&message)) on_message(message);
  const grpc::Status status = reader->Finish();
  return Unavailable("index 0 of the stage at {} hung up: {}", address, status.error_message());
}

}  // namespace fulger
