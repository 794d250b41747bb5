// fulger-planner-bench: what the coordinator spends on one step: the result of a step is applied (each token
// to its request's sink) and the next plan is made, with N sequences decoding. No transport, no text.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "coordinator/engine/engine_core.h"

namespace fulger {
namespace {

// Keeps the plans; answers are made from them outside of the measured time.
class PlanQueue final : public Backend {
 public:
  void Submit(std::shared_ptr<const v1::StepPlan> plan) override { plans.push_back(std::move(plan)); }
  void Encode(uint64_t, const Pictures&) override {}
  void Withdraw(uint64_t, const std::vector<std::string>&) override {}
  void Evict(uint64_t, const std::vector<std::string>&) override {}
  void Save(uint64_t, const v1::SaveStates&) override {}
  void Fetch(uint64_t, const v1::SavedState&) override {}
  std::deque<std::shared_ptr<const v1::StepPlan>> plans;
};

class CountingSink final : public ResponseSink {
 public:
  explicit CountingSink(int64_t* tokens) : tokens_(tokens) {}
  Next OnToken(const Token&) override {
    ++*tokens_;
    return Next::kContinue;
  }
  void OnDone(const Completion&) override {}

 private:
  int64_t* const tokens_;
};

// Positions of the tokens to come: the workers' side, kept by the bench.
class Workers {
 public:
  v1::StepResult Run(const v1::StepPlan& plan) {
    for (const auto& added : plan.new_sequences()) Length(added.sequence()) = added.ids_size();
    v1::StepResult result;
    result.set_epoch(plan.epoch());
    result.set_step(plan.step());
    for (const auto& row : plan.rows()) {
      if (!row.sample()) continue;
      v1::SampledToken* token = result.add_tokens();
      token->set_sequence(row.sequence());
      token->set_position(Length(row.sequence())++);
      token->set_id(7);
    }
    return result;
  }

 private:
  int64_t& Length(uint64_t sequence) {
    if (lengths_.size() <= sequence) lengths_.resize(sequence + 1);
    return lengths_[sequence];
  }
  std::vector<int64_t> lengths_;
};

void Measure(int64_t sequences, int64_t stages, int steps) {
  SteadyClock clock;
  PlanQueue queue;
  EngineCore core({.max_running_requests = sequences, .anchors = 16, .max_step_tokens = 16384}, {&queue},
                  &clock, nullptr, [](const std::string&) {});
  int64_t tokens = 0;
  for (int64_t i = 0; i < sequences; ++i) {
    EngineRequest request{.id = std::to_string(i), .prompt = {}, .images = {}, .sampling = {}};
    for (int32_t k = 0; k < 64; ++k) request.prompt.push_back(static_cast<int32_t>(i) + k);
    request.sampling.set_max_tokens(100000);
    core.Submit(std::move(request), std::make_shared<CountingSink>(&tokens));
  }
  core.Up(0, 1,
          {.blocks = 1 << 20,
           .block_size = 16,
           .slots = sequences + 16,
           .max_step_tokens = 16384,
           .stages = stages});
  core.Pump();
  Workers workers;
  std::vector<double> micros;
  std::vector<double> rows;
  const int warm_up = static_cast<int>(sequences * 64 / 16384 + 20);
  for (int step = 0; step < warm_up + steps; ++step) {
    const v1::StepResult result = workers.Run(*queue.plans.front());
    queue.plans.pop_front();
    const auto start = std::chrono::steady_clock::now();
    core.Result(0, result);
    core.Pump();
    const auto end = std::chrono::steady_clock::now();
    if (step < warm_up) continue;
    micros.push_back(std::chrono::duration<double, std::micro>(end - start).count());
    rows.push_back(result.tokens_size());
  }
  std::sort(micros.begin(), micros.end());
  const double median = micros[micros.size() / 2];
  const double row = rows[rows.size() / 2];
  std::printf(
      "%6ld running, %ld stage%s: median %8.1f us a step (best %.1f, 99%% %.1f), %.0f rows, %.3f us a row\n",
      sequences, stages, stages == 1 ? " " : "s", median, micros.front(), micros[micros.size() * 99 / 100],
      row, median / row);
}

}  // namespace
}  // namespace fulger

int main(int argc, char** argv) {
  CLI::App app("Time to apply a step's result and to make the next plan", "fulger-planner-bench");
  int steps = 300;
  app.add_option("--steps", steps, "measured steps")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  for (const int64_t sequences : {256, 1024, 2048, 4096}) fulger::Measure(sequences, 1, steps);
  fulger::Measure(4096, 4, steps);
  return 0;
}
