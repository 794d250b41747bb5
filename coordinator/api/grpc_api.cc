#include "coordinator/api/grpc_api.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/security/tls_certificate_provider.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/thread_pool.h"
#include "coordinator/api/grpc_generate.h"
#include "fulger/v1/generate.grpc.pb.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {
namespace {

class Service final : public v1::Fulger::CallbackService {
 public:
  Service(const GrpcApiOptions& options, Frontend* frontend, ServerMetrics* metrics)
      : options_(options),
        frontend_(frontend),
        metrics_(metrics),
        pool_(options.threads, options.max_waiting) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(grpc::CallbackServerContext* context,
                                                           const v1::GenerateRequest* request) override {
    auto call = std::make_shared<GenerateCall>(context, request, frontend_, metrics_,
                                               options_.max_unsent_tokens, clock_.Now());
    call->KeepUntilDone();
    const absl::StatusOr<ClientQuota> client = CheckKey(*context);
    absl::Status admitted = client.status();
    if (admitted.ok()) admitted = CheckReady(frontend_->Stats(), options_.stall_timeout);
    if (admitted.ok()) {
      call->Run(&pool_, *client);
    } else {
      call->Refuse(admitted);
    }
    return call.get();
  }

  grpc::ServerUnaryReactor* Cancel(grpc::CallbackServerContext* context, const v1::CancelRequest* request,
                                   v1::CancelResponse* response) override {
    const absl::Status admitted = CheckKey(*context).status();
    if (admitted.ok()) response->set_found(frontend_->Cancel(request->request_id()));
    return FinishUnary(context, admitted);
  }

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest*,
                                     v1::GetModelResponse* response) override {
    const absl::Status admitted = CheckKey(*context).status();
    if (admitted.ok()) {
      const ModelCard& card = frontend_->card();
      response->set_id(card.id);
      response->set_model_type(card.model_type);
      response->set_max_context(card.max_context);
      response->set_vision(card.vision);
      response->set_layout(options_.layout);
      response->set_fingerprint(options_.fingerprint);
    }
    return FinishUnary(context, admitted);
  }

 private:
  absl::StatusOr<ClientQuota> CheckKey(const grpc::CallbackServerContext& context) const {
    if (options_.keys == nullptr) return ClientQuota{};
    const auto& metadata = context.client_metadata();
    const auto found = metadata.find("authorization");
    return options_.keys->Check(found == metadata.end()
                                    ? std::string_view()
                                    : std::string_view(found->second.data(), found->second.size()));
  }
  static grpc::ServerUnaryReactor* FinishUnary(grpc::CallbackServerContext* context,
                                               const absl::Status& status) {
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(ToGrpc(status));
    return reactor;
  }

  const GrpcApiOptions options_;
  Frontend* const frontend_;
  ServerMetrics* const metrics_;
  SteadyClock clock_;
  ThreadPool pool_;  // last: its threads use the rest
};

class Server final : public GrpcApi {
 public:
  Server(const GrpcApiOptions& options, Frontend* frontend, ServerMetrics* metrics)
      : options_(options), frontend_(frontend), service_(options, frontend, metrics) {}
  ~Server() override { Stop(Duration(0)); }

  absl::Status Listen() {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::ServerBuilder builder;
    // Without this two servers share a port silently.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    builder.AddListeningPort(options_.address, Credentials(), &port_);
    builder.SetMaxReceiveMessageSize(options_.max_message_bytes);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return FailedPrecondition("gRPC address {}: cannot listen there (in use, or not this machine's)",
                                options_.address);
    }
    ShowHealth(CheckReady(frontend_->Stats(), options_.stall_timeout).ok());
    watch_ = std::thread([this] { WatchHealth(); });
    return absl::OkStatus();
  }

  int port() const override { return port_; }

  void Stop(Duration grace) override {
    {
      std::lock_guard lock(mu_);
      if (stopping_ || server_ == nullptr) return;
      stopping_ = true;
    }
    changed_.notify_all();
    if (watch_.joinable()) watch_.join();
    ShowHealth(false);
    server_->Shutdown(std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(grace));
    server_->Wait();
  }

 private:
  std::shared_ptr<grpc::ServerCredentials> Credentials() const {
    if (options_.tls_certificate.empty()) return grpc::InsecureServerCredentials();
    constexpr unsigned kLookEverySeconds = 5;
    grpc::experimental::TlsServerCredentialsOptions tls(
        std::make_shared<grpc::experimental::FileWatcherCertificateProvider>(
            options_.tls_key, options_.tls_certificate, kLookEverySeconds));
    tls.watch_identity_key_cert_pairs();
    tls.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
    return grpc::experimental::TlsServerCredentials(tls);
  }
  void ShowHealth(bool ready) {
    grpc::HealthCheckServiceInterface* health = server_->GetHealthCheckService();
    health->SetServingStatus(ready);  // of the server as a whole
    health->SetServingStatus("fulger.v1.Fulger", ready);
  }

  void WatchHealth() {
    bool shown = CheckReady(frontend_->Stats(), options_.stall_timeout).ok();
    ShowHealth(shown);
    std::unique_lock lock(mu_);
    while (!changed_.wait_for(lock, options_.health_interval, [&] { return stopping_; })) {
      lock.unlock();
      const bool ready = CheckReady(frontend_->Stats(), options_.stall_timeout).ok();
      if (ready != shown) ShowHealth(ready);
      shown = ready;
      lock.lock();
    }
  }

  const GrpcApiOptions options_;
  Frontend* const frontend_;
  Service service_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;  // after service_: it goes first
  std::thread watch_;
  std::mutex mu_;
  std::condition_variable changed_;
  bool stopping_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcApi>> GrpcApi::Start(const GrpcApiOptions& options, Frontend* frontend,
                                                        ServerMetrics* metrics) {
  auto server = std::make_unique<Server>(options, frontend, metrics);
  RETURN_IF_ERROR(server->Listen());
  return std::unique_ptr<GrpcApi>(std::move(server));
}

}  // namespace fulger
