// fulger serve: HTTP and gRPC in front of a replica, until SIGTERM or SIGINT.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/log.h"
#include "base/version.h"
#include "coordinator/api/api_keys.h"
#include "coordinator/api/batch_api.h"
#include "coordinator/api/grpc_api.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/openai.h"
#include "coordinator/cli/address.h"
#include "coordinator/cli/cluster_metrics.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/deployment.h"
#include "coordinator/cli/server_info.h"
#include "coordinator/cli/state_dir.h"
#include "coordinator/cli/walltime.h"
#include "coordinator/frontend/frontend.h"
#include "coordinator/jobs/job_store.h"
#include "coordinator/page/page.h"
#include "coordinator/page/picture_grid.h"
#include "coordinator/telemetry/step_observer.h"
#include "coordinator/telemetry/trace_api.h"
#include "monitoring/metrics/metrics.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {
namespace {

struct ServeFlags {
  DeploymentFlags deployment;
  std::string listen = "127.0.0.1:8000";
  std::string grpc;
  std::vector<std::string> api_keys;
  std::string api_keys_file;
  std::string tls_certificate, tls_key;
  int64_t max_queued_tokens = AdmissionLimits{}.queued_tokens;
  int request_seconds = 0;
  std::string jobs_db;
  int64_t batch_concurrency = 16;
  StateDirFlags state;
  int drain_seconds = 30;
  std::string end_time;
  std::string metrics_compat;
};

// Signals are blocked in every thread and taken by the main thread alone.
sigset_t EndSignals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGTERM);
  ::sigaddset(&signals, SIGINT);
  ::sigaddset(&signals, SIGHUP);
  ::sigaddset(&signals, SIGUSR1);  // batch systems warn with it
  return signals;
}

// What SIGHUP reads anew. What is wrong is logged, and what was there stays.
void Reload(ApiKeyRing* keys, HttpServer* http) {
  const absl::Status read = keys->Reload();
  const absl::Status tls = http->ReloadTls();
  if (!read.ok()) LogError("SIGHUP: the API keys stay as they were: {}", Message(read));
  if (!tls.ok()) LogError("SIGHUP: the certificate stays as it was: {}", Message(tls));
  if (read.ok() && tls.ok()) LogInfo("SIGHUP: keys and certificate read");
}

// Logs what a replica does while it comes up.
class ReplicaLog {
 public:
  ReplicaLog(std::string who, const std::string* url) : who_(std::move(who)), url_(url) {}
  // False while it is on its way.
  bool Look(const ReplicaInfo& info) {
    if (info.phase == ReplicaPhase::kServing) {
      if (info.epoch != serving_epoch_) LogInfo("{}ready: {}", who_, *url_);
      serving_epoch_ = info.epoch;
      return true;
    }
    serving_epoch_ = 0;
    if (std::string text = DescribeLoading(info); text != last_) {
      const std::string rates = DescribeLoadRates(info);
      LogInfo("{}{}: {}{}{}", who_, Name(info.phase), text, rates.empty() ? "" : ", ", rates);
      last_ = std::move(text);
    }
    return false;
  }

 private:
  const std::string who_;
  const std::string* const url_;
  std::string last_;
  uint64_t serving_epoch_ = 0;
};

// Waits for a signal; logs what the replicas do meanwhile. Not OK: none can be had.
absl::Status RunUntilSignal(Deployment& deployment, const std::string& url,
                            const std::function<bool()>& time_is_up, const std::function<void()>& reload) {
  const sigset_t signals = EndSignals();
  std::vector<ReplicaLog> logs;
  for (size_t i = 0; i < deployment.replicas(); ++i) {
    logs.emplace_back(deployment.replicas() == 1 ? "" : fmt::format("replica {}: ", i), &url);
  }
  bool all = false;
  while (true) {
    const timespec second{.tv_sec = 0, .tv_nsec = all ? 999'999'999 : 100'000'000};
    const int signal = ::sigtimedwait(&signals, nullptr, &second);
    if (signal == SIGHUP) {
      reload();
      continue;
    }
    if (signal > 0) {
      LogInfo("{}: stopping", signal == SIGINT ? "SIGINT" : signal == SIGUSR1 ? "SIGUSR1" : "SIGTERM");
      return absl::OkStatus();
    }
    if (time_is_up()) {
      LogInfo("the job's time ends: stopping");
      return absl::OkStatus();
    }
    RETURN_IF_ERROR(deployment.health());
    all = true;
    for (size_t i = 0; i < logs.size(); ++i) all = logs[i].Look(deployment.replica(i).Info()) && all;
  }
}

// Null without --grpc.
absl::StatusOr<std::unique_ptr<GrpcApi>> StartGrpc(const ServeFlags& flags, const Deployment& deployment,
                                                   const ApiKeyRing* keys, Frontend* frontend,
                                                   ServerMetrics* metrics) {
  if (flags.grpc.empty()) return nullptr;
  ASSIGN_OR_RETURN(SocketAddress address, ParseAddress("--grpc", flags.grpc));
  const GrpcApiOptions options{.address = flags.grpc,
                               .keys = keys,
                               .tls_certificate = flags.tls_certificate,
                               .tls_key = flags.tls_key,
                               .layout = ToString(deployment.plan().layout),
                               .fingerprint = deployment.fingerprint()};
  ASSIGN_OR_RETURN(auto grpc, GrpcApi::Start(options, frontend, metrics));
  address.port = static_cast<uint16_t>(grpc->port());
  LogInfo("gRPC on {}", ToString(address));
  return grpc;
}

// Files and batches; both null without --jobs-db.
struct Jobs {
  std::unique_ptr<JobStore> store;
  std::unique_ptr<BatchApi> api;
};
absl::StatusOr<Jobs> StartJobs(const ServeFlags& flags, const ApiKeyRing* keys, OpenAiApi* openai,
                               Router* router) {
  Jobs jobs;
  if (flags.jobs_db.empty()) return jobs;
  ASSIGN_OR_RETURN(jobs.store, JobStore::Open(flags.jobs_db));
  jobs.api = std::make_unique<BatchApi>(
      keys, jobs.store.get(),
      [openai](const std::string& endpoint, std::string body, std::shared_ptr<HttpResponder> responder) {
        openai->Answer(endpoint, std::move(body), std::move(responder));
      },
      BatchRunner::Options{.concurrency = flags.batch_concurrency, .now = {}});
  jobs.api->Register(router);
  return jobs;
}

absl::StatusOr<PictureGridOptions> PictureGrid(const ServeFlags& flags, const ApiKeyRing* keys,
                                               Deployment& deployment) {
  PictureGridOptions options{.keys = keys};
  if (deployment.config().vision) {
    ASSIGN_OR_RETURN(options.processor, LoadImageProcessorConfig(flags.deployment.model_dir));
  }
  return options;
}

// gRPC has the same certificate. Nothing without TLS. No scrape comes after the HTTP server's end.
void ShowTlsExpiry(MetricRegistry* registry, const HttpServer* http) {
  if (http->tls_expiry() == 0) return;
  const Gauge expiry = registry->AddGauge("fulger_tls_certificate_expiry_timestamp_seconds",
                                          "When the first certificate of the chain in use ends, since 1970.");
  registry->AddCollector([expiry, http] { expiry.Set(static_cast<double>(http->tls_expiry())); });
}

TraceApiOptions TraceOptions(const ApiKeyRing* keys, Deployment* deployment) {
  return {.keys = keys,
          .about = {{"version", kVersion},
                    {"layout", ToString(deployment->plan().layout)},
                    {"fingerprint", deployment->fingerprint()}},
          .listen = [deployment](TimingListener* listener) {
            for (size_t i = 0; i < deployment->replicas(); ++i) {
              deployment->replica(i).SetTimingListener(listener);
            }
          }};
}

absl::Status Serve(const ServeFlags& flags) {
  const sigset_t signals = EndSignals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ASSIGN_OR_RETURN(const auto job_end, JobEnd(flags.end_time));
  ASSIGN_OR_RETURN(const SocketAddress listen, ParseAddress("--listen", flags.listen));

  MetricRegistry registry;
  Timeline timeline;
  StepObserver observer(&registry, &timeline);
  ASSIGN_OR_RETURN(auto deployment, Deployment::Create(flags.deployment, &observer));
  observer.SetModel(deployment->config(), deployment->plan(), deployment->StageWeights());
  ServerMetrics metrics(&registry, {.version = kVersion,
                                    .max_context = deployment->budget().max_context,
                                    .vllm_names = flags.metrics_compat == "vllm",
                                    .model_name = deployment->flags().model_name});
  ASSIGN_OR_RETURN(const auto state, StateDir::Open(flags.state, deployment.get()));
  FrontendOptions options{.model_dir = flags.deployment.model_dir,
                          .model_name = deployment->flags().model_name,
                          .chat_template = flags.deployment.chat_template,
                          .max_context = deployment->budget().max_context,
                          .admission = {.queued_requests = flags.deployment.max_queued_requests,
                                        .queued_tokens = flags.max_queued_tokens},
                          .saved = state != nullptr ? state->requests() : nullptr,
                          .metrics = &metrics};
  ASSIGN_OR_RETURN(const auto frontend, MakeFrontend(options, &deployment->engine()));
  ClusterMetrics cluster_metrics(&registry, deployment.get(),
                                 flags.metrics_compat == "vllm" ? deployment->flags().model_name : "");

  ApiKeyRing keys(flags.api_keys, flags.api_keys_file);
  RETURN_IF_ERROR(keys.Reload());
  OpenAiOptions api_options;
  api_options.version = kVersion;
  api_options.keys = &keys;
  api_options.request_timeout = std::chrono::seconds(flags.request_seconds);
  api_options.server_info = [&] { return ServerInfoJson(*deployment, frontend->card().id); };
  OpenAiApi api(api_options, frontend.get(), &registry, &metrics);
  Router router;
  api.Register(&router);
  ASSIGN_OR_RETURN(PictureGridOptions grid_options, PictureGrid(flags, &keys, *deployment));
  RegisterPictureGrid(&router, std::move(grid_options));
  RegisterPage(&router);
  TraceApi trace_api(TraceOptions(&keys, deployment.get()), &timeline);
  trace_api.Register(&router);
  ASSIGN_OR_RETURN(const Jobs jobs, StartJobs(flags, &keys, &api, &router));
  HttpServerOptions http_options{.address = listen.host,
                                 .port = listen.port,
                                 .tls_certificate = flags.tls_certificate,
                                 .tls_key = flags.tls_key};
  http_options.on_answer = [&](const std::string& route, int status) { metrics.HttpAnswered(route, status); };
  ASSIGN_OR_RETURN(const auto http, HttpServer::Start(http_options, std::move(router)));
  ShowTlsExpiry(&registry, http.get());
  ASSIGN_OR_RETURN(const auto grpc, StartGrpc(flags, *deployment, &keys, frontend.get(), &metrics));
  const std::string url =
      (flags.tls_certificate.empty() ? "http://" : "https://") + ToString({listen.host, http->port()});
  LogInfo("listening on {}", url);

  const std::chrono::seconds drain(flags.drain_seconds);
  // Earlier the more there would be to save.
  const auto drain_start = [&] {
    return DrainStart(*job_end, drain, state != nullptr ? state->SaveTime() : std::chrono::seconds(0));
  };
  if (job_end.has_value()) {
    LogInfo("the job ends in {} s; draining begins in {} s",
            std::chrono::duration_cast<std::chrono::seconds>(*job_end - WallClock::now()).count(),
            std::chrono::duration_cast<std::chrono::seconds>(drain_start() - WallClock::now()).count());
  }
  RETURN_IF_ERROR(deployment->Start());
  const absl::Status ended = RunUntilSignal(
      *deployment, url, [&] { return job_end.has_value() && WallClock::now() >= drain_start(); },
      [&] { Reload(&keys, http.get()); });
  if (jobs.api != nullptr && state != nullptr) jobs.api->Pause();
  if (jobs.api != nullptr && state == nullptr) jobs.api->Stop();
  if (state != nullptr) {
    // Where no replica can be had there are still the tokens.
    state->DrainAndSave(ended.ok() ? drain : std::chrono::seconds(0), job_end);
  } else {
    deployment->engine().Drain(ended.ok() ? drain : std::chrono::seconds(0));
  }
  if (jobs.api != nullptr) jobs.api->Stop();
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
  command->add_option("--api-keys-file", flags->api_keys_file,
                      "one client a line: NAME SECRET [max-requests=N] [max-tokens=N]; read again on SIGHUP");
  CLI::Option* certificate = command->add_option("--tls-certificate", flags->tls_certificate,
                                                 "PEM chain: HTTPS, and TLS for gRPC; read again on SIGHUP");
  CLI::Option* tls_key =
      command->add_option("--tls-key", flags->tls_key, "PEM private key of --tls-certificate");
  certificate->needs(tls_key);
  tls_key->needs(certificate);
  command
      ->add_option("--max-queued-requests", flags->deployment.max_queued_requests,
                   "requests that wait for their first token; beyond: 429")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--max-queued-tokens", flags->max_queued_tokens,
                   "tokens of the prompts that wait; beyond: 429")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--request-timeout", flags->request_seconds,
                   "seconds that a request may take, waiting included; 0: any time")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--jobs-db", flags->jobs_db,
                      "SQLite file of /v1/files and /v1/batches, made where there is none; default: neither");
  command->add_option("--batch-concurrency", flags->batch_concurrency, "requests of batches at a time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option(
      "--end-time", flags->end_time,
      "when the job that this runs in ends, seconds since 1970: draining begins --drain-timeout and 15 s "
      "before. Default: SLURM_JOB_END_TIME, if set");
  command
      ->add_option("--drain-timeout", flags->drain_seconds, "seconds that running requests get after SIGTERM")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  AddStateDirFlags(command, &flags->state);
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
