// fulger-step-bench: what a step of a model larger than any cache reaches of this machine: decode at batch 1
// and 8 against the read bandwidth, a prompt of 512 tokens against the multiply-adds, and every op beside
// them. The limits are measured right before and after each round with the same threads. Not a test: numbers
// of a shared machine vary.
//
//   fulger-step-bench [--dir D | --model M] [--threads N] [--experts E] [--projections P] [--batch B,..] ..
//   mpirun -np 2 fulger-step-bench --transport mpi --threads 1      tensor parallel: times alone
//
// `fulger bench latency` runs it.
#include <CLI/CLI.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "kernels/bench/machine_limits.h"
#include "tests/bench/bench_checkpoint.h"
#include "tests/bench/bench_rank.h"
#include "tests/bench/quantile.h"

namespace fulger {
namespace {

struct Case {
  std::string name;
  int64_t batch = 1;
  int64_t prompt = 4;
  int decode_steps = 0;  // 0: the prompt itself is measured
};

struct Flags {
  std::string dir = "build/bench-checkpoint";
  std::string model;
  std::vector<int64_t> batches = {1, 8};
  int64_t context = 4;
  int64_t prompt = 512;
  std::string transport = "single";
  std::string json;
  std::string only;
  std::string experts = "stored";
  std::string projections = "stored";
  DeviceOptions device;
  int rounds = 5;
  int tokens = 24;
};

// One case over all rounds.
struct Measured {
  Case what;
  std::vector<double> seconds;  // of a step, median of its round
  std::vector<double> each;     // of every step
  std::vector<double> shares;   // of one bound for the whole step: its time / the step's
  std::vector<double> floors;   // the ops' floors, each by the bound that is longer for it / the step's time
  bool bound_by_memory = true;
  OpTable ops;  // summed over rounds
  int64_t steps = 0;
  double wall = 0;  // of all steps
};

class Bench {
 public:
  Bench(Flags flags, BenchRank& rank) : flags_(std::move(flags)), rank_(rank) {
    if (alone()) pool_.emplace(flags_.device.threads > 0 ? flags_.device.threads : AvailableThreads());
  }

  absl::Status Run(const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      if (c.name.find(flags_.only) != std::string::npos) measured_.push_back({.what = c});
    }
    for (int round = 0; round < flags_.rounds; ++round) {
      for (Measured& m : measured_) RETURN_IF_ERROR(Round(m));
    }
    if (rank_.rank() == 0) {
      for (const Measured& m : measured_) Print(m);
      if (!flags_.json.empty()) WriteJson();
    }
    return absl::OkStatus();
  }

 private:
  bool alone() const { return rank_.ranks() == 1; }

  MachineLimits Limits() {
    if (!alone()) return {};
    if (!probe_.has_value()) probe_.emplace();
    return probe_->Measure(*pool_);
  }

  absl::Status Round(Measured& m) {
    const MachineLimits before = Limits();
    std::vector<double> times;
    rank_.ops().clear();
    ASSIGN_OR_RETURN(double seconds, rank_.Prefill(m.what.batch, m.what.prompt));
    if (m.what.decode_steps == 0) {
      times.push_back(seconds);
    } else {
      rank_.ops().clear();
      for (int i = 0; i < m.what.decode_steps; ++i) {
        ASSIGN_OR_RETURN(seconds, rank_.Decode());
        times.push_back(seconds);
      }
    }
    const MachineLimits after = Limits();
    const double step = Median(times);
    m.seconds.push_back(step);
    const double read = (before.read_bytes_per_second + after.read_bytes_per_second) / 2;
    const double peak = (before.flops_per_second + after.flops_per_second) / 2;
    double bytes = 0, flops = 0, floor = 0;
    for (const auto& [name, totals] : rank_.ops()) {
      bytes += totals.bytes;
      flops += totals.flops;
      if (alone()) floor += std::max(totals.bytes / read, totals.flops / peak);
      OpTotals& sum = m.ops[name];
      sum.calls += totals.calls;
      sum.seconds += totals.seconds;
      sum.bytes += totals.bytes;
      sum.flops += totals.flops;
    }
    const auto steps = static_cast<double>(times.size());
    m.steps += static_cast<int64_t>(times.size());
    m.each.insert(m.each.end(), times.begin(), times.end());
    for (const double t : times) m.wall += t;
    if (!alone()) return absl::OkStatus();
    read_.push_back(read);
    peak_.push_back(peak);
    m.bound_by_memory = bytes / read > flops / peak;
    m.shares.push_back(std::max(bytes / read, flops / peak) / steps / step);
    m.floors.push_back(floor / steps / step);
    return absl::OkStatus();
  }

  void Print(const Measured& m) const {
    const double step = Median(m.seconds);
    const auto tokens =
        static_cast<double>(m.what.decode_steps == 0 ? m.what.batch * m.what.prompt : m.what.batch);
    std::printf("\n%s: %.2f ms a step (p90 %.2f, p99 %.2f of %zu), %.1f tokens/s", m.what.name.c_str(),
                1e3 * step, 1e3 * Quantile(m.each, 0.9), 1e3 * Quantile(m.each, 0.99), m.each.size(),
                tokens / step);
    if (alone()) {
      const auto [low, high] = std::minmax_element(m.shares.begin(), m.shares.end());
      std::printf(", %.2f of the %s (median of %zu rounds; %.2f to %.2f), %.2f of the ops' own floors",
                  Median(m.shares), m.bound_by_memory ? "read bandwidth" : "multiply-adds", m.shares.size(),
                  *low, *high, Median(m.floors));
    }
    std::printf("\n  %-24s %7s %9s %9s %9s %8s %8s %8s %8s\n", "op, per step", "calls", "ms", "MB", "MFLOP",
                "GB/s", "of read", "GFLOP/s", "of peak");
    std::vector<std::pair<std::string, OpTotals>> rows(m.ops.begin(), m.ops.end());
    std::sort(rows.begin(), rows.end(),
              [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
    OpTotals all;
    for (const auto& [name, t] : rows) {
      PrintRow(name, t, m.steps);
      all.calls += t.calls;
      all.seconds += t.seconds;
      all.bytes += t.bytes;
      all.flops += t.flops;
    }
    PrintRow("all ops", all, m.steps);
    const OpTotals rest{.seconds = m.wall - all.seconds};
    PrintRow("between ops", rest, m.steps);
  }

  void PrintRow(const std::string& name, const OpTotals& t, int64_t steps) const {
    const auto n = static_cast<double>(steps);
    std::printf("  %-24s %7.0f %9.3f %9.2f %9.1f", name.c_str(), static_cast<double>(t.calls) / n,
                1e3 * t.seconds / n, 1e-6 * t.bytes / n, 1e-6 * t.flops / n);
    if (t.bytes > 0 && alone()) {
      std::printf(" %8.1f %8.2f %8.1f %8.2f", 1e-9 * t.bytes / t.seconds, t.bytes / t.seconds / Median(read_),
                  1e-9 * t.flops / t.seconds, t.flops / t.seconds / Median(peak_));
    }
    std::printf("\n");
  }

  void WriteJson() const {
    nlohmann::json out;
    out["device"] = rank_.device().Describe();
    out["ranks"] = rank_.ranks();
    out["experts"] = flags_.experts;
    out["projections"] = flags_.projections;
    if (alone()) {
      out["read_bytes_per_second"] = Median(read_);
      out["flops_per_second"] = Median(peak_);
      out["peak_instruction_set"] = probe_->instruction_set();
    }
    for (const Measured& m : measured_) {
      nlohmann::json& c = out["cases"][m.what.name];
      c["seconds_per_step"] = m.seconds;
      c["median_seconds_per_step"] = Median(m.seconds);
      c["p90_seconds_per_step"] = Quantile(m.each, 0.9);
      c["p99_seconds_per_step"] = Quantile(m.each, 0.99);
      c["batch"] = m.what.batch;
      c["prompt"] = m.what.prompt;
      if (alone()) {
        c["bound"] = m.bound_by_memory ? "read" : "flops";
        c["shares_of_bound"] = m.shares;
        c["median_share_of_bound"] = Median(m.shares);
        c["median_share_of_floors"] = Median(m.floors);
      }
      const auto n = static_cast<double>(m.steps);
      for (const auto& [name, t] : m.ops) {
        c["ops"][name] = {{"calls", static_cast<double>(t.calls) / n},
                          {"seconds", t.seconds / n},
                          {"bytes", t.bytes / n},
                          {"flops", t.flops / n}};
      }
    }
    if (flags_.json == "-") {
      std::cout << out.dump(2) << "\n";
    } else {
      std::ofstream(flags_.json) << out.dump(2) << "\n";
    }
  }

  const Flags flags_;
  BenchRank& rank_;
  std::optional<ComputePool> pool_;
  std::optional<LimitsProbe> probe_;
  std::vector<double> read_, peak_;
  std::vector<Measured> measured_;
};

absl::Status Main(const Flags& flags) {
  const bool random = flags.model.empty();
  if (random && flags.transport == "single") RETURN_IF_ERROR(WriteBenchCheckpoint(flags.dir));
  std::vector<Case> cases;
  for (const int64_t batch : flags.batches) {
    cases.push_back({.name = fmt::format("decode batch {}", batch),
                     .batch = batch,
                     .prompt = flags.context,
                     .decode_steps = flags.tokens});
  }
  cases.push_back({.name = fmt::format("prefill {}", flags.prompt), .batch = 1, .prompt = flags.prompt});
  const int64_t batch = std::ranges::max(flags.batches);
  ASSIGN_OR_RETURN(const WeightFormat experts, WeightFormatFromName("experts", flags.experts));
  ASSIGN_OR_RETURN(const WeightFormat projections, WeightFormatFromName("projections", flags.projections));
  ASSIGN_OR_RETURN(const auto rank,
                   BenchRank::Start({.dir = random ? flags.dir : flags.model,
                                     .transport = flags.transport,
                                     .device = flags.device,
                                     .experts = experts,
                                     .projections = projections,
                                     .max_tokens = std::max(flags.prompt, batch * flags.context),
                                     .max_context = std::max(flags.prompt, flags.context + flags.tokens) + 16,
                                     .max_batch = batch}));
  if (rank->rank() == 0) {
    std::printf("%s; experts %s, projections %s\n", rank->device().Describe().c_str(), flags.experts.c_str(),
                flags.projections.c_str());
  }
  return Bench(flags, *rank).Run(cases);
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  CLI::App app("Steps of a model against this machine's limits", "fulger-step-bench");
  fulger::Flags flags;
  app.add_option("--dir", flags.dir, "where the random checkpoint is kept (3 GB)")->capture_default_str();
  app.add_option("--model", flags.model, "a checkpoint folder, in place of the random one");
  const CLI::Validator positive = CLI::Range(int64_t{1}, int64_t{1} << 20);
  app.add_option("--batch", flags.batches, "sequences of a decode step: a,b,..")
      ->delimiter(',')
      ->check(positive);
  app.add_option("--context", flags.context, "tokens before the first decode step")->check(positive);
  app.add_option("--prompt", flags.prompt, "tokens of the prefill")->check(positive);
  app.add_option("--threads", flags.device.threads, "compute threads; 0: all cores")->capture_default_str();
  app.add_option("--kernels", flags.device.kernels, "auto, avx512, avx2 or portable")->capture_default_str();
  app.add_option("--experts", flags.experts, "stored or int8")->capture_default_str();
  app.add_option("--projections", flags.projections, "stored or int8")->capture_default_str();
  app.add_option("--transport", flags.transport, "single, or mpi under mpirun")->capture_default_str();
  app.add_option("--rounds", flags.rounds, "interleaved repetitions")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--tokens", flags.tokens, "decode steps per round")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--only", flags.only, "cases whose name holds this");
  app.add_option("--json", flags.json, "also write everything to this file; -: to standard output");
  CLI11_PARSE(app, argc, argv);
  fulger::InitLogging("bench");
  const absl::Status status = fulger::Main(flags);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
