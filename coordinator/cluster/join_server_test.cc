// The control listener with real gRPC clients.
#include "coordinator/cluster/join_server.h"

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <future>
#include <map>

#include "base/bounded_queue.h"
#include "fulger/v1/control.grpc.pb.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// Hands what happens to the test's thread.
class Recorder final : public JoinHandler {
 public:
  void OnMessage(const std::shared_ptr<WorkerConnection>& from, const v1::WorkerMessage& message) override {
    messages.TryPush({from, message});
  }
  void OnClosed(const std::shared_ptr<WorkerConnection>& from) override { closed.TryPush(from); }

  BoundedQueue<std::pair<std::shared_ptr<WorkerConnection>, v1::WorkerMessage>> messages{4096};
  BoundedQueue<std::shared_ptr<WorkerConnection>> closed{64};
};

class Client {
 public:
  explicit Client(const std::string& address)
      : stub_(v1::Control::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))),
        stream_(stub_->Join(&context_)) {}
  ~Client() { context_.TryCancel(); }

  void Send(int rank) {
    v1::WorkerMessage message;
    message.set_rank(rank);
    ASSERT_TRUE(stream_->Write(message));
  }
  bool Receive(v1::CoordinatorMessage* message) { return stream_->Read(message); }
  void HangUp() { context_.TryCancel(); }
  grpc::Status Finish() {
    stream_->WritesDone();
    return stream_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::Control::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>> stream_;
};

std::shared_ptr<const v1::CoordinatorMessage> Ping(uint64_t id) {
  auto message = std::make_shared<v1::CoordinatorMessage>();
  message->mutable_ping()->set_id(id);
  return message;
}

TEST(JoinServer, CarriesMessagesBothWaysInOrder) {
  Recorder recorder;
  ASSERT_OK_AND_ASSIGN(auto server, JoinServer::Start("127.0.0.1:0", &recorder));
  EXPECT_THAT(server->address(), StartsWith("127.0.0.1:"));
  EXPECT_NE(server->address(), "127.0.0.1:0");
  Client client(server->address());
  constexpr int kMany = 300;
  for (int i = 0; i < kMany; ++i) client.Send(i);
  std::shared_ptr<WorkerConnection> connection;
  for (int i = 0; i < kMany; ++i) {
    auto got = recorder.messages.Pop();
    ASSERT_EQ(got->second.rank(), i);
    connection = got->first;
  }
  EXPECT_THAT(connection->peer(), HasSubstr("127.0.0.1"));
  for (int i = 0; i < kMany; ++i) connection->Send(Ping(static_cast<uint64_t>(i)));
  v1::CoordinatorMessage message;
  for (int i = 0; i < kMany; ++i) {
    ASSERT_TRUE(client.Receive(&message));
    ASSERT_EQ(message.ping().id(), static_cast<uint64_t>(i));
  }
}

TEST(JoinServer, FinishSendsWhatIsQueuedFirst) {
  Recorder recorder;
  ASSERT_OK_AND_ASSIGN(auto server, JoinServer::Start("127.0.0.1:0", &recorder));
  Client client(server->address());
  client.Send(1);
  auto connection = recorder.messages.Pop()->first;
  for (uint64_t i = 0; i < 50; ++i) connection->Send(Ping(i));
  connection->Finish();
  connection->Send(Ping(99));  // too late: dropped
  v1::CoordinatorMessage message;
  int received = 0;
  while (client.Receive(&message)) ++received;
  EXPECT_EQ(received, 50);
  EXPECT_TRUE(client.Finish().ok());
  EXPECT_EQ(recorder.closed.Pop(), connection);
}

TEST(JoinServer, NoticesAWorkerThatHangsUp) {
  Recorder recorder;
  ASSERT_OK_AND_ASSIGN(auto server, JoinServer::Start("127.0.0.1:0", &recorder));
  Client stays(server->address());
  stays.Send(1);
  auto staying = recorder.messages.Pop()->first;
  Client leaves(server->address());
  leaves.Send(2);
  auto leaving = recorder.messages.Pop()->first;
  leaves.HangUp();
  EXPECT_EQ(recorder.closed.Pop(), leaving);
  leaving->Send(Ping(1));  // nowhere to go, and no harm
  leaving->Finish();
  staying->Send(Ping(7));
  v1::CoordinatorMessage message;
  ASSERT_TRUE(stays.Receive(&message));
  EXPECT_EQ(message.ping().id(), 7U);
}

TEST(JoinServer, ListensOnAUnixSocket) {
  Recorder recorder;
  const std::string address = "unix:" + testing::TempDir() + "/join_" + std::to_string(::getpid());
  ASSERT_OK_AND_ASSIGN(auto server, JoinServer::Start(address, &recorder));
  EXPECT_EQ(server->address(), address);
  Client client(address);
  client.Send(3);
  EXPECT_EQ(recorder.messages.Pop()->second.rank(), 3);
}

TEST(JoinServer, EndsWithStreamsOpen) {
  Recorder recorder;
  ASSERT_OK_AND_ASSIGN(auto server, JoinServer::Start("127.0.0.1:0", &recorder));
  Client client(server->address());
  client.Send(1);
  auto connection = recorder.messages.Pop()->first;
  server.reset();
  v1::CoordinatorMessage message;
  EXPECT_FALSE(client.Receive(&message));
  EXPECT_EQ(recorder.closed.Pop(), connection);
  connection->Send(Ping(1));
}

TEST(JoinServer, SaysThatAPortIsInUse) {
  Recorder recorder;
  ASSERT_OK_AND_ASSIGN(auto server, JoinServer::Start("127.0.0.1:0", &recorder));
  EXPECT_THAT(JoinServer::Start(server->address(), &recorder).status(),
              StatusIs(absl::StatusCode::kUnavailable, HasSubstr("cannot listen on " + server->address())));
}

}  // namespace
}  // namespace fulger
