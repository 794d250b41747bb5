// fulger bench: load on a server, what it answered and how fast; two runs side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "coordinator/bench/books.h"
#include "coordinator/bench/compare.h"
#include "coordinator/bench/load.h"
#include "coordinator/bench/result.h"
#include "coordinator/cli/bench_output.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/conversation.h"
#include "coordinator/cli/http_client.h"

namespace fulger {
namespace {

constexpr int kRegression = 3;
constexpr int64_t kMaxResultBytes = int64_t{4} << 30;

struct ServeFlags {
  std::string url = "http://127.0.0.1:8000", model, api_key_file, ca_file, api = "chat";
  std::string arrivals = "closed:1", mix = "random:input=128,output=64", goal, json, html;
  int64_t requests = 0, vocabulary = 256;
  double duration = 0, drain = 600, allow_failed = 0;
  uint64_t seed = 1;
  bool plain = false, many_per_event = false, quiet = false;
  std::vector<std::string> command;
};

absl::StatusOr<std::string> ApiKey(const std::string& file) {
  if (file.empty()) {
    const char* const key = std::getenv("OPENAI_API_KEY");
    return std::string(key == nullptr ? "" : key);
  }
  ASSIGN_OR_RETURN(std::string key, ReadFile(file, 1 << 16));
  key.erase(key.find_last_not_of(" \t\r\n") + 1);
  return key;
}

// Null where the server is none of ours.
nlohmann::json ServerInfo(const HttpClient& client) {
  const auto response = client.Get("/v1/server_info");
  if (!response.ok() || response->status != 200) return nullptr;
  nlohmann::json info = nlohmann::json::parse(response->body, nullptr, /*allow_exceptions=*/false);
  return info.is_object() ? info : nlohmann::json();
}

void ShowProgress(const bench::LoadProgress& p) {
  ShowProgressLine(fmt::format("{:6.1f} s  {} sent, {} done, {} failed, {} under way, {} tokens", p.seconds,
                               p.sent, p.succeeded, p.failed, p.under_way, p.token_events));
}

// The number of lines of the books that do not balance.
absl::StatusOr<size_t> BenchServe(ServeFlags flags) {
  ASSIGN_OR_RETURN(const bench::ArrivalSpec arrivals, bench::ParseArrivals(flags.arrivals));
  ASSIGN_OR_RETURN(const bench::MixSpec mix_spec, bench::ParseMix(flags.mix));
  bench::Goal goal;
  if (!flags.goal.empty()) {
    ASSIGN_OR_RETURN(goal, bench::ParseGoal(flags.goal));
  }
  if (flags.requests == 0 && flags.duration == 0) flags.requests = 100;
  ASSIGN_OR_RETURN(std::string key, ApiKey(flags.api_key_file));
  ASSIGN_OR_RETURN(bench::Endpoint endpoint, bench::ParseEndpoint(flags.url, std::move(key)));
  ASSIGN_OR_RETURN(bench::StreamClient client, bench::StreamClient::Make(endpoint, flags.ca_file));
  bench::RunSetup setup{.command = flags.command,
                        .url = flags.url,
                        .model = flags.model,
                        .api = flags.api,
                        .arrivals = flags.arrivals,
                        .mix = flags.mix,
                        .goal = flags.goal,
                        .seed = flags.seed};
  const HttpClient http(endpoint.url, endpoint.api_key, flags.ca_file);
  if (setup.model.empty()) {
    ASSIGN_OR_RETURN(setup.model, FirstModel(http));
  }
  setup.server_info = ServerInfo(http);
  bench::BodyOptions body{.api = flags.api == "chat" ? bench::Api::kChat : bench::Api::kCompletions,
                          .model = setup.model,
                          .plain = flags.plain,
                          .vocabulary = flags.vocabulary,
                          .seed = flags.seed};
  ASSIGN_OR_RETURN(const bench::RequestMix mix, bench::RequestMix::Make(mix_spec, body));
  const bench::LoadPlan plan{.arrivals = arrivals,
                             .api = body.api,
                             .sessions = flags.requests,
                             .duration = flags.duration,
                             .drain = flags.drain,
                             .seed = flags.seed};
  setup.started = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  std::function<void(const bench::LoadProgress&)> progress;
  if (!flags.quiet) progress = ShowProgress;
  const bench::LoadResult load = bench::RunLoad(plan, mix, &client, progress);
  if (!flags.quiet) std::fputs("\n", stderr);
  const bench::BookRules rules{.one_token_per_event = !flags.many_per_event,
                               .exact_length = !flags.plain && mix_spec.kind != bench::MixSpec::Kind::kFile,
                               .allowed_failures = flags.allow_failed};
  const std::vector<std::string> books = bench::CheckBooks(load, rules);
  const nlohmann::json result = bench::ResultJson(setup, load, goal, books);
  std::fputs(bench::ResultText(result).c_str(), stdout);
  std::fflush(stdout);
  if (!flags.json.empty()) {
    RETURN_IF_ERROR(
        WriteResult(flags.json, result.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"));
  }
  if (!flags.html.empty()) RETURN_IF_ERROR(WriteResult(flags.html, bench::ResultHtml(result)));
  for (const std::string& line : books) {
    std::fprintf(stderr, "fulger bench serve: the books do not balance: %s\n", line.c_str());
  }
  return books.size();
}

void AddBenchServe(CLI::App* bench, int* exit_code) {
  auto flags = std::make_shared<ServeFlags>();
  CLI::App* command = bench->add_subcommand("serve", "load on a server with OpenAI's API");
  command->add_option("--url", flags->url, "of the server, http or https")->capture_default_str();
  command->add_option("--model", flags->model, "default: the first that the server names");
  command->add_option("--api-key-file", flags->api_key_file, "file with the key; default: $OPENAI_API_KEY");
  command->add_option("--ca-file", flags->ca_file, "certificates to trust besides the system's");
  command->add_option("--api", flags->api, "chat, or completions with token ids as prompts")
      ->check(CLI::IsMember({"chat", "completions"}))
      ->capture_default_str();
  command
      ->add_option("--arrivals", flags->arrivals,
                   "poisson:RATE | constant:RATE | burst:COUNT:SECONDS | closed:USERS; rates per second")
      ->capture_default_str();
  command
      ->add_option(
          "--mix", flags->mix,
          "random:input=N,output=N | prefix:prefix=N,groups=N,.. | turns:turns=N,.. | "
          "pictures:pictures=N,width=N,height=N,distinct=N,.. | file:PATH of JSON lines; input in words, "
          "or in tokens with --api completions")
      ->capture_default_str();
  command->add_option("--requests", flags->requests, "sessions at most; 0: any number until --duration")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--duration", flags->duration, "seconds, after which nothing new is sent; 0: no bound")
      ->check(CLI::NonNegativeNumber);
  command->add_option("--drain", flags->drain, "seconds after the last sending, then what is left is cut off")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "the same seed: the same requests at the same times")
      ->capture_default_str();
  command->add_option("--goal", flags->goal, "for goodput, as in ttft:500ms,tpot:50ms,e2e:10s");
  command->add_option("--vocabulary", flags->vocabulary, "--api completions: ids are drawn below it")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--plain", flags->plain, "only OpenAI's own fields: no ignore_eos, no running usage");
  command->add_flag("--many-per-event", flags->many_per_event,
                    "the server may put several tokens into one event");
  command->add_option("--allow-failed", flags->allow_failed, "share of requests that may fail, 0 to 1")
      ->check(CLI::Range(0.0, 1.0));
  command->add_option("--json", flags->json, "write the result to this file");
  command->add_option("--html", flags->html, "write a page with plots to this file");
  command->add_flag("--quiet", flags->quiet, "no progress on standard error");
  command->footer(
      "Exit code 0: done; 3: the books do not balance (standard error says which line); 1: no run.");
  command->callback([flags, exit_code] {
    flags->command = CommandLine();
    const auto wrong = BenchServe(*flags);
    if (!wrong.ok()) std::fprintf(stderr, "fulger bench serve: %s\n", Message(wrong.status()).c_str());
    *exit_code = !wrong.ok() ? 1 : *wrong > 0 ? kUnbalanced : 0;
  });
}

struct CompareFlags {
  std::string a, b;
  double tolerance = 0.05;
  bool json = false;
};

absl::StatusOr<bool> BenchCompare(const CompareFlags& flags) {
  const auto read = [](const std::string& path) -> absl::StatusOr<nlohmann::json> {
    ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMaxResultBytes));
    nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (json.is_discarded()) return InvalidArgument("{}: no JSON", path);
    return json;
  };
  ASSIGN_OR_RETURN(const nlohmann::json a, read(flags.a));
  ASSIGN_OR_RETURN(const nlohmann::json b, read(flags.b));
  ASSIGN_OR_RETURN(const bench::Comparison comparison, bench::Compare(a, b, flags.tolerance));
  const std::string text =
      flags.json ? bench::ComparisonJson(comparison).dump(1) + "\n" : bench::ComparisonText(comparison);
  std::fputs(text.c_str(), stdout);
  return comparison.regressed() || !comparison.warnings.empty();
}

void AddBenchCompare(CLI::App* bench, int* exit_code) {
  auto flags = std::make_shared<CompareFlags>();
  CLI::App* command = bench->add_subcommand("compare", "two results of bench serve side by side");
  command->add_option("A", flags->a, "JSON result, the base")->required();
  command->add_option("B", flags->b, "JSON result")->required();
  command->add_option("--tolerance", flags->tolerance, "0.05: up to 5% worse is no regression")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--json", flags->json, "print one JSON object");
  command->footer(
      "A regression: the 95% interval of B / A lies wholly beyond the tolerance. Exit code 0: none; 3: one, "
      "or books "
      "that do not balance; 1: not readable.");
  command->callback([flags, exit_code] {
    const auto worse = BenchCompare(*flags);
    if (!worse.ok()) std::fprintf(stderr, "fulger bench compare: %s\n", Message(worse.status()).c_str());
    *exit_code = !worse.ok() ? 1 : *worse ? kRegression : 0;
  });
}

}  // namespace

void AddBench(CLI::App* app, int* exit_code) {
  CLI::App* command =
      app->add_subcommand("bench", "measure a server, the engine or this machine; compare two measurements");
  command->require_subcommand(1);
  AddBenchServe(command, exit_code);
  AddBenchCompare(command, exit_code);
  AddBenchThroughput(command, exit_code);
  AddBenchLatency(command, exit_code);
}

}  // namespace fulger
