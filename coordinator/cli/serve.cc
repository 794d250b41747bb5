// fulger serve: HTTP and gRPC in front of a replica, until SIGTERM or SIGINT.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/version.h"
#include "coordinator/api/grpc_api.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/openai.h"
#include "coordinator/cli/address.h"
#include "coordinator/cli/cluster_metrics.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/deployment.h"
#include "coordinator/cli/server_info.h"
#include "coordinator/frontend/frontend.h"
#include "monitoring/metrics/metrics.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {
namespace {

struct ServeFlags {
  DeploymentFlags deployment;
  std::string listen = "127.0.0.1:8000";
  std::string grpc;
  std::vector<std::string> api_keys;
  int drain_seconds = 30;
  std::string metrics_compat;
};

// Signals are blocked in every thread and taken by the main thread alone.
sigset_t EndSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  return signals;
}

// Waits for a signal; logs what the replica does meanwhile. Not OK: the replica cannot be had.
absl::Status RunUntilSignal(Deployment& deployment, const std::string& url) {
  const sigset_t signals = EndSignals();
  std::string last;
  uint64_t serving_epoch = 0;
  while (true) {
    const timespec second{.tv_sec = 0, .tv_nsec = serving_epoch == 0 ? 100'000'000 : 999'999'999};
    const int signal = ::sigtimedwait(&signals, nullptr, &second);
    if (signal > 0) {
      LogInfo("{}: stopping", signal == SIGINT ? "SIGINT" : "SIGTERM");
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(deployment.cluster().health());
    const ReplicaInfo info = deployment.cluster().replica().Info();
    if (info.phase == ReplicaPhase::kServing) {
      if (info.epoch != serving_epoch) LogInfo("ready: {}", url);
      serving_epoch = info.epoch;
      continue;
    }
    serving_epoch = 0;
    if (std::string text = DescribeLoading(info); text != last) {
      LogInfo("{}: {}", Name(info.phase), text);
      last = std::move(text);
    }
  }
}

// Null without --grpc.
absl::StatusOr<std::unique_ptr<GrpcApi>> StartGrpc(const ServeFlags& flags, const Deployment& deployment,
                                                   Frontend* frontend, ServerMetrics* metrics) {
  if (flags.grpc.empty()) return nullptr;
  ASSIGN_OR_RETURN(SocketAddress address, ParseAddress("--grpc", flags.grpc));
  const GrpcApiOptions options{.address = flags.grpc,
                               .api_keys = flags.api_keys,
                               .layout = ToString(deployment.plan().layout),
                               .fingerprint = deployment.fingerprint()};
  ASSIGN_OR_RETURN(auto grpc, GrpcApi::Start(options, frontend, metrics));
  address.port = static_cast<uint16_t>(grpc->port());
  LogInfo("gRPC on {}", ToString(address));
  return grpc;
}

absl::Status Serve(const ServeFlags& flags) {
  const sigset_t signals = EndSignals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ASSIGN_OR_RETURN(const SocketAddress listen, ParseAddress("--listen", flags.listen));

  MetricRegistry registry;
  ASSIGN_OR_RETURN(auto deployment, Deployment::Create(flags.deployment, nullptr));
  ServerMetrics metrics(&registry, {.version = kVersion,
                                    .max_context = deployment->budget().max_context,
                                    .vllm_names = flags.metrics_compat == "vllm",
                                    .model_name = deployment->flags().model_name});
  FrontendOptions options{.model_dir = flags.deployment.model_dir,
                          .model_name = deployment->flags().model_name,
                          .chat_template = flags.deployment.chat_template,
                          .max_context = deployment->budget().max_context,
                          .metrics = &metrics};
  ASSIGN_OR_RETURN(const auto frontend, MakeFrontend(options, &deployment->engine()));
  ClusterMetrics cluster_metrics(&registry, deployment.get());

  OpenAiOptions api_options;
  api_options.version = kVersion;
  api_options.api_keys = flags.api_keys;
  api_options.server_info = [&] { return ServerInfoJson(*deployment, frontend->card().id); };
  OpenAiApi api(api_options, frontend.get(), &registry, &metrics);
  Router router;
  api.Register(&router);
  HttpServerOptions http_options{.address = listen.host, .port = listen.port};
  http_options.on_answer = [&](const std::string& route, int status) { metrics.HttpAnswered(route, status); };
  ASSIGN_OR_RETURN(const auto http, HttpServer::Start(http_options, std::move(router)));
  ASSIGN_OR_RETURN(const auto grpc, StartGrpc(flags, *deployment, frontend.get(), &metrics));
  const std::string url = "http://" + ToString({listen.host, http->port()});
  LogInfo("listening on {}", url);

  RETURN_IF_ERROR(deployment->Start());
  const absl::Status ended = RunUntilSignal(*deployment, url);
  deployment->engine().Drain(std::chrono::seconds(ended.ok() ? flags.drain_seconds : 0));
  http->Stop(std::chrono::seconds(5));
  if (grpc != nullptr) grpc->Stop(std::chrono::seconds(5));
  deployment->Stop("the server stops");
  if (ended.ok()) LogInfo("stopped");
  return ended;
}

}  // namespace

void AddServe(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = app->add_subcommand("serve", "serve a checkpoint over HTTP and gRPC");
  AddDeploymentFlags(command, &flags->deployment, "info");
  command->add_option("--listen", flags->listen, "ADDR:PORT of the HTTP API; port 0: any free one")
      ->capture_default_str();
  command->add_option("--grpc", flags->grpc, "ADDR:PORT of the gRPC API; default: none");
  command->add_option("--api-key", flags->api_keys, "bearer token that opens the API; may be repeated");
  command
      ->add_option("--drain-timeout", flags->drain_seconds, "seconds that running requests get after SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--metrics-compat", flags->metrics_compat, "vllm: the same metrics under vLLM's names too")
      ->check(CLI::IsMember({"vllm"}));
  command->footer("--config FILE reads the same flags from a file, one \"name = value\" per line.");
  command->callback([flags, exit_code] {
    StartLogging(flags->deployment);
    const absl::Status status = Serve(*flags);
    if (!status.ok()) std::fprintf(stderr, "fulger serve: %s\n", Message(status).c_str());
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace fulger
