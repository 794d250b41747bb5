// fulger bench throughput: how many requests and tokens a second the engine and its ranks get through,
// without HTTP and without text.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/version.h"
#include "coordinator/bench/summary.h"
#include "coordinator/cli/bench_output.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/deployment.h"
#include "coordinator/cli/offline_load.h"
#include "coordinator/cli/server_info.h"

namespace fulger {
namespace {

constexpr auto kStartDeadline = std::chrono::hours(1);  // the phases have their own
// Requests at the engine for each one that may run: it never starves, and its queue stays short.
constexpr int64_t kRequestsPerPlace = 4;

struct ThroughputFlags {
  DeploymentFlags deployment;
  int64_t requests = 256, input = 128, output = 64, in_flight = 0;
  int rounds = 3;
  uint64_t seed = 1;
  std::string json;
  bool quiet = false;
  std::vector<std::string> command;
};

struct Run {
  std::vector<OfflineFigures> rounds;
  OfflineFigures all;  // with the warm-up
};

void ShowProgress(int round, int rounds, int64_t requests, const OfflineFigures& f) {
  ShowProgressLine(fmt::format("round {} of {}: {:6.1f} s  {} of {} requests done, {:.1f} tokens/s generated",
                               round, rounds, f.seconds, f.requests, requests,
                               static_cast<double>(f.generated_tokens) / std::max(f.seconds, 1e-9)));
}

absl::Status Measure(const ThroughputFlags& flags, Deployment& deployment, Run* run) {
  OfflineLoad load{.requests = flags.requests,
                   .input = flags.input,
                   .output = flags.output,
                   .in_flight = flags.in_flight,
                   .vocab = deployment.config().text.vocab,
                   .never = deployment.config().image_token_id};
  const auto run_one = [&](int round) -> absl::Status {
    // The warm-up draws prompts that no round has.
    load.seed = flags.seed + static_cast<uint64_t>(round);
    load.requests = round == 0 ? std::min(flags.requests, flags.deployment.max_sequences) : flags.requests;
    OfflineWatch watch{.health = [&deployment] { return deployment.health(); }};
    if (!flags.quiet && round > 0) {
      watch.progress = [&](const OfflineFigures& f) { ShowProgress(round, flags.rounds, load.requests, f); };
    }
    ASSIGN_OR_RETURN(const OfflineFigures figures, RunOffline(load, deployment.engine(), watch));
    if (watch.progress) watch.progress(figures);
    run->all.prompt_tokens += figures.prompt_tokens;
    run->all.generated_tokens += figures.generated_tokens;
    if (round > 0) run->rounds.push_back(figures);
    return absl::OkStatus();
  };
  for (int round = 0; round <= flags.rounds; ++round) RETURN_IF_ERROR(run_one(round));
  deployment.engine().Drain(std::chrono::seconds(0));
  return CheckTotals(run->all, deployment.engine().Stats());
}

nlohmann::json RateJson(const Run& run, int64_t (*count)(const OfflineFigures&)) {
  std::vector<double> values;
  for (const OfflineFigures& f : run.rounds) values.push_back(static_cast<double>(count(f)) / f.seconds);
  std::vector<double> sorted = values;
  std::sort(sorted.begin(), sorted.end());
  return {{"median", bench::Percentile(sorted, 50)},
          {"min", sorted.front()},
          {"max", sorted.back()},
          {"rounds", values}};
}

nlohmann::json ResultJson(const ThroughputFlags& flags, double started, const Run& run,
                          Deployment& deployment) {
  nlohmann::json rounds = nlohmann::json::array();
  for (const OfflineFigures& f : run.rounds) {
    rounds.push_back({{"seconds", f.seconds},
                      {"requests", f.requests},
                      {"prompt_tokens", f.prompt_tokens},
                      {"generated_tokens", f.generated_tokens}});
  }
  nlohmann::json info = nlohmann::json::parse(ServerInfoJson(deployment, deployment.flags().model_name),
                                              nullptr, /*allow_exceptions=*/false);
  return {
      {"kind", "throughput"},
      {"version", kVersion},
      {"command", flags.command},
      {"started", started},
      {"seed", flags.seed},
      {"requests", flags.requests},
      {"input_tokens", flags.input},
      {"output_tokens", flags.output},
      {"in_flight", flags.in_flight},
      {"rounds", std::move(rounds)},
      {"requests_per_second", RateJson(run, [](const OfflineFigures& f) { return f.requests; })},
      {"prompt_tokens_per_second", RateJson(run, [](const OfflineFigures& f) { return f.prompt_tokens; })},
      {"generated_tokens_per_second",
       RateJson(run, [](const OfflineFigures& f) { return f.generated_tokens; })},
      {"tokens_per_second",
       RateJson(run, [](const OfflineFigures& f) { return f.prompt_tokens + f.generated_tokens; })},
      {"server_info", std::move(info)}};
}

void Print(const ThroughputFlags& flags, const nlohmann::json& result) {
  std::printf("%lld requests of %lld + %lld tokens, %d rounds; median (least to most)\n",
              static_cast<long long>(flags.requests), static_cast<long long>(flags.input),
              static_cast<long long>(flags.output), flags.rounds);
  const auto line = [&result](const char* name, const char* key) {
    const nlohmann::json& rate = result[key];
    std::printf("  %-20s %10.1f  (%.1f to %.1f)\n", name, rate["median"].get<double>(),
                rate["min"].get<double>(), rate["max"].get<double>());
  };
  line("requests/s", "requests_per_second");
  line("tokens/s, prompts", "prompt_tokens_per_second");
  line("tokens/s, generated", "generated_tokens_per_second");
  line("tokens/s, both", "tokens_per_second");
  std::fflush(stdout);
}

// The exit code.
absl::StatusOr<int> BenchThroughput(ThroughputFlags flags) {
  if (flags.in_flight == 0) {
    flags.in_flight = kRequestsPerPlace * flags.deployment.max_sequences * flags.deployment.replicas;
  }
  ASSIGN_OR_RETURN(auto deployment, Deployment::Create(flags.deployment, nullptr));
  RETURN_IF_ERROR(deployment->Start());
  RETURN_IF_ERROR(deployment->WaitUntilServing(kStartDeadline));
  const double started =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  Run run;
  const absl::Status measured = Measure(flags, *deployment, &run);
  if (!flags.quiet) std::fputs("\n", stderr);
  nlohmann::json result;
  if (measured.ok()) result = ResultJson(flags, started, run, *deployment);
  deployment->engine().Drain(std::chrono::seconds(0));
  deployment->Stop("done");
  if (absl::IsDataLoss(measured)) {
    std::fprintf(stderr, "fulger bench throughput: the books do not balance: %s\n",
                 Message(measured).c_str());
    return kUnbalanced;
  }
  RETURN_IF_ERROR(measured);
  Print(flags, result);
  if (!flags.json.empty()) RETURN_IF_ERROR(WriteResult(flags.json, result.dump(1) + "\n"));
  return 0;
}

}  // namespace

void AddBenchThroughput(CLI::App* bench, int* exit_code) {
  auto flags = std::make_shared<ThroughputFlags>();
  CLI::App* command = bench->add_subcommand("throughput", "many requests through the engine, without HTTP");
  AddDeploymentFlags(command, &flags->deployment, "warn");
  const auto add = [command](const char* name, auto& value, const char* help) {
    command->add_option(name, value, help)->check(CLI::PositiveNumber)->capture_default_str();
  };
  add("--requests", flags->requests, "of each round");
  add("--input", flags->input, "tokens of each prompt, drawn at random");
  add("--output", flags->output, "tokens of each answer");
  add("--rounds", flags->rounds, "after a warm-up; each has prompts of its own");
  command
      ->add_option(
          "--in-flight", flags->in_flight,
          "requests at the engine at a time, waiting ones included; 0: 4 for each of --max-sequences")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--seed", flags->seed, "the same seed: the same prompts")->capture_default_str();
  command->add_option("--json", flags->json, "write the result to this file");
  command->add_flag("--quiet", flags->quiet, "no progress on standard error");
  command->footer(
      "Exit code 0: done; 3: the books do not balance (an answer of another length than asked for, or tokens "
      "that the "
      "engine counted and did not deliver); 1: no run.");
  command->callback([flags, exit_code] {
    StartLogging(flags->deployment);
    flags->command = CommandLine();
    const absl::StatusOr<int> code = BenchThroughput(*flags);
    if (!code.ok()) std::fprintf(stderr, "fulger bench throughput: %s\n", Message(code.status()).c_str());
    *exit_code = code.ok() ? *code : 1;
  });
}

}  // namespace fulger
