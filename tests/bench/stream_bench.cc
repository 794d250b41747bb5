// fulger-stream-bench: thousands of streams through the whole coordinator (HTTP, frontend, engine) before
// simulated ranks.
//
//   load      ranks answer at once: no stream lost, no token out of order, bytes of memory for each stream,
//   tokens per
//             second of a core
//   latency   ranks answer at a pace: from the arrival of a StepResult to the return of the socket write that
//   holds the
//             token
//   check     as load, but only of loss and order; ctest runs it
//
// The clients are a process of their own, forked before the first thread, so that the server's processor time
// and memory are its own.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "coordinator/api/http_server.h"
#include "coordinator/api/openai.h"
#include "coordinator/engine/engine.h"
#include "coordinator/frontend/frontend.h"
#include "monitoring/metrics/server_metrics.h"
#include "tests/bench/instant_ranks.h"
#include "tests/bench/quantile.h"
#include "tests/bench/socket_watch.h"
#include "tests/bench/stream_clients.h"

namespace fulger {
namespace {

constexpr int64_t kContext = 8192, kBlock = 16, kPromptTokens = 256;

struct Flags {
  std::string mode = "load", checkpoint = "build/golden_checkpoints/demo";
  int64_t streams = 2000, tokens = 100, replicas = 1;
  double rate = 20, seconds = 120;
  int threads = 2;
};

// Both processes see it.
struct Shared {
  std::atomic<int> port{0};  // set when the server is ready; -1: it never will be
  ClientReport report;
};

template <typename T>
T* MapShared(size_t count) {
  void* const memory = ::mmap(nullptr, count * sizeof(T), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return memory == MAP_FAILED ? nullptr : static_cast<T*>(memory);
}

// Of the server's own: without files and what it shares with the clients.
double Kibibytes() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("RssAnon")) return std::stod(line.substr(line.find(':') + 1));
  }
  return 0;
}

double CpuSeconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// The ids whose text is one letter, in the alphabet's order.
absl::StatusOr<std::vector<int32_t>> Alphabet(const Frontend& frontend) {
  std::vector<int32_t> ids(26, -1);
  for (int32_t id = 0; id < frontend.card().vocab; ++id) {
    const std::string text = frontend.TokenText(id);
    if (text.size() == 1 && text[0] >= 'a' && text[0] <= 'z') ids[static_cast<size_t>(text[0] - 'a')] = id;
  }
  if (std::ranges::find(ids, -1) != ids.end()) return FailedPrecondition("the tokenizer lacks a letter");
  return ids;
}

// The coordinator in this process.
class Server {
 public:
  Server(const Flags& flags, const TokenTimes& times) : flags_(flags) {
    const int64_t each = (flags.streams + flags.replicas - 1) / flags.replicas + 8;
    const ReplicaCapacity capacity{.blocks = each * ((flags.tokens + kPromptTokens) / kBlock + 1),
                                   .block_size = kBlock,
                                   .slots = each,
                                   .max_step_tokens = each + 4096,
                                   .stages = 1};
    const std::chrono::nanoseconds interval(flags.mode == "latency" ? static_cast<int64_t>(1e9 / flags.rate)
                                                                    : 0);
    const auto on_token = [&times](const std::string& request, int64_t index) {
      const int64_t stream = StreamOf(request);
      if (stream < 0 || index >= times.tokens) return;
      times.At(times.result, stream, index).store(MonotonicNanoseconds(), std::memory_order_relaxed);
    };
    std::vector<Backend*> backends;
    for (int64_t r = 0; r < flags.replicas; ++r) {
      ranks_.push_back(
          std::make_unique<InstantRanks>(InstantRanksOptions{.capacity = capacity,
                                                             .interval = interval,
                                                             .phase = interval * r / flags.replicas,
                                                             .on_token = on_token}));
      backends.push_back(ranks_.back().get());
    }
    engine_ = Engine::Create({.max_queued_requests = flags.streams + 16,
                              .max_running_requests = each,
                              .max_step_tokens = capacity.max_step_tokens,
                              .max_context = kContext},
                             backends, &clock_);
  }
  ~Server() {
    engine_->Drain(std::chrono::seconds(1));
    if (http_ != nullptr) http_->Stop(std::chrono::seconds(0));
    for (const auto& one : ranks_) one->Stop();
  }

  // The port.
  absl::StatusOr<int> Start() {
    const int64_t queued = flags_.streams + 16;
    ASSIGN_OR_RETURN(frontend_, MakeFrontend({.model_dir = flags_.checkpoint,
                                              .model_name = "demo",
                                              .max_context = kContext,
                                              .admission = {.queued_requests = queued},
                                              .metrics = &metrics_},
                                             engine_.get()));
    ASSIGN_OR_RETURN(const std::vector<int32_t> cycle, Alphabet(*frontend_));
    OpenAiOptions options;
    options.max_waiting = static_cast<size_t>(queued);
    api_ = std::make_unique<OpenAiApi>(options, frontend_.get(), &registry_, &metrics_);
    Router router;
    api_->Register(&router);
    ASSIGN_OR_RETURN(http_, HttpServer::Start({.port = 0, .threads = flags_.threads}, std::move(router)));
    for (size_t r = 0; r < ranks_.size(); ++r) ranks_[r]->Start(engine_->Events(r), cycle);
    while (!CheckReady(engine_->Stats(), std::chrono::seconds(60)).ok()) ::usleep(1000);
    return http_->port();
  }
  // Lets the ranks answer as soon as all streams have come. False: not yet.
  bool ReleaseWhenFull() {
    const EngineStats stats = engine_->Stats();
    if (stats.running + stats.waiting < flags_.streams) return false;
    for (const auto& one : ranks_) one->Release();
    return true;
  }

 private:
  const Flags flags_;
  SteadyClock clock_;
  MetricRegistry registry_;
  ServerMetrics metrics_{&registry_, {.version = "bench"}};
  std::vector<std::unique_ptr<InstantRanks>> ranks_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Frontend> frontend_;
  std::unique_ptr<OpenAiApi> api_;
  std::unique_ptr<HttpServer> http_;
};

struct Usage {
  double cpu_seconds = 0;               // while there were clients
  double before_kib = 0, most_kib = 0;  // memory
  bool clients_ended = false;           // as they should
};

absl::StatusOr<Usage> Serve(const Flags& flags, const TokenTimes& times, Shared* shared, pid_t clients) {
  Server server(flags, times);
  ASSIGN_OR_RETURN(const int port, server.Start());
  Usage usage{.before_kib = Kibibytes()};
  usage.most_kib = usage.before_kib;
  const double cpu = CpuSeconds();
  shared->port = port;
  int status = 0;
  bool full = false;
  while (::waitpid(clients, &status, WNOHANG) == 0) {
    if (!full) full = server.ReleaseWhenFull();
    ::usleep(full ? 20000 : 1000);
    usage.most_kib = std::max(usage.most_kib, Kibibytes());
  }
  usage.cpu_seconds = CpuSeconds() - cpu;
  usage.clients_ended = status == 0;
  return usage;
}

// Of each stream's tokens from `first` on.
void PrintQuantiles(const char* what, const TokenTimes& times, const std::atomic<int64_t>* until,
                    int64_t first) {
  std::vector<double> us;
  for (int64_t i = 0; i < times.streams * times.tokens; ++i) {
    const int64_t from = times.result[i].load(), to = until[i].load();
    if (i % times.tokens >= first && from > 0 && to > 0) us.push_back(static_cast<double>(to - from) / 1000);
  }
  if (us.empty()) return;
  std::printf("%-46s p50 %.0f us, p90 %.0f us, p99 %.0f us, most %.0f us, of %zu tokens\n", what,
              Quantile(us, 0.5), Quantile(us, 0.9), Quantile(us, 0.99), Quantile(us, 1), us.size());
}

// True: no stream lost, no token out of order.
bool Report(const Flags& flags, const TokenTimes& times, const ClientReport& report, const Usage& usage) {
  std::printf(
      "%ld streams at once, of %ld tokens: %ld complete, %ld tokens lost, %ld out of order, %ld refused\n",
      flags.streams, flags.tokens, report.complete, report.lost, report.out_of_order, report.refused);
  if (report.message[0] != 0) std::printf("first at fault: %s\n", report.message);
  const bool good = usage.clients_ended && report.complete == flags.streams && report.out_of_order == 0;
  if (flags.mode == "check") return good;
  const auto total = static_cast<double>(flags.streams * flags.tokens);
  const double wall = static_cast<double>(report.last_ns - report.first_ns) / 1e9;
  std::printf(
      "server: %.2f s of processor time, %.0f tokens/s of a core; %.0f tokens/s in all, over %.2f s\n",
      usage.cpu_seconds, total / usage.cpu_seconds, total / wall, wall);
  std::printf("server: %.1f KiB of memory for each stream (%.1f MiB before, %.1f at most)\n",
              (usage.most_kib - usage.before_kib) / static_cast<double>(flags.streams),
              usage.before_kib / 1024, usage.most_kib / 1024);
  // At a pace: from its second second on, when all requests have come and been parsed.
  const int64_t first =
      flags.mode == "latency" ? std::min(static_cast<int64_t>(flags.rate), flags.tokens - 1) : 1;
  PrintQuantiles("StepResult to the return of the socket write:", times, times.written, first);
  PrintQuantiles("StepResult to the client's read:", times, times.received, first);
  return good;
}

int Main(const Flags& flags) {
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  void* const place = MapShared<Shared>(1);
  const auto count = static_cast<size_t>(flags.streams * flags.tokens);
  const TokenTimes times{.streams = flags.streams,
                         .tokens = flags.tokens,
                         .result = MapShared<std::atomic<int64_t>>(count),
                         .written = MapShared<std::atomic<int64_t>>(count),
                         .received = MapShared<std::atomic<int64_t>>(count)};
  if (place == nullptr || times.result == nullptr || times.written == nullptr || times.received == nullptr) {
    std::fprintf(stderr, "fulger-stream-bench: no memory for the times of %zu tokens\n", count);
    return 1;
  }
  auto* const shared = new (place) Shared();
  const pid_t clients = ::fork();
  if (clients == 0) {
    while (shared->port == 0) ::usleep(1000);
    if (shared->port > 0) {
      shared->report = RunClients(static_cast<uint16_t>(shared->port.load()), times, flags.seconds);
    }
    ::_exit(0);
  }
  WatchSockets(&times);
  InitLogging("stream-bench", LogLevel::kWarn);
  const auto usage = Serve(flags, times, shared, clients);
  WatchSockets(nullptr);
  if (usage.ok()) return Report(flags, times, shared->report, *usage) ? 0 : 1;
  std::fprintf(stderr, "fulger-stream-bench: %s\n", Message(usage.status()).c_str());
  shared->port = -1;
  ::waitpid(clients, nullptr, 0);
  return 1;
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  fulger::Flags flags;
  CLI::App app("streams through the coordinator before simulated ranks", "fulger-stream-bench");
  const auto add = [&app](const char* name, auto& value, const char* help) {
    app.add_option(name, value, help)->check(CLI::PositiveNumber)->capture_default_str();
  };
  app.add_option("mode", flags.mode, "load | latency | check")
      ->check(CLI::IsMember({"load", "latency", "check"}))
      ->required();
  app.add_option("--checkpoint", flags.checkpoint, "folder whose tokenizer and template are used")
      ->capture_default_str();
  add("--streams", flags.streams, "at once");
  add("--tokens", flags.tokens, "of each stream");
  add("--replicas", flags.replicas, "simulated ones, whose steps are spread over the interval");
  add("--rate", flags.rate, "latency: tokens per second of each stream");
  add("--seconds", flags.seconds, "at most");
  add("--threads", flags.threads, "of the HTTP server");
  app.footer("Exit code 1: a stream was lost, or a token out of order.");
  CLI11_PARSE(app, argc, argv);
  return fulger::Main(flags);
}
