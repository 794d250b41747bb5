// fulger plan: which layouts of a model fit a cluster, what each rank holds, how fast a step is.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "base/file.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/plan_flags.h"
#include "coordinator/planner/plan_report.h"

namespace fulger {
namespace {

struct Flags {
  PlanFlags plan;
  bool json = false;
  std::string svg;
  int64_t top = 10;
};

// OK: something fits.
absl::StatusOr<bool> RunPlan(const Flags& flags) {
  ASSIGN_OR_RETURN(const PlanInputs in, LoadPlanInputs(flags.plan));
  ASSIGN_OR_RETURN(const Candidates found, FindLayouts(in.model, in.cluster, in.wishes));
  const PlanReport report{in.model, in.cluster, in.wishes, found};
  const auto top = static_cast<size_t>(flags.top);
  const bool fits = !found.fitting.empty();
  if (flags.json) {
    std::fputs(PlanJson(report, top).c_str(), stdout);
  } else if (fits) {
    std::fputs(PlanText(report, top).c_str(), stdout);
  }
  if (!fits) std::fprintf(stderr, "fulger plan: %s", PlanRefusal(report).c_str());
  if (fits && !flags.svg.empty()) {
    std::ofstream file(flags.svg);
    file << PlanSvg(report);
    if (!file.flush()) return Unavailable("{}: cannot be written", flags.svg);
  }
  return fits;
}

}  // namespace

void AddPlan(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app->add_subcommand("plan", "layouts that fit a cluster, bytes per rank, predicted times");
  AddPlanFlags(command, &flags->plan);
  command->add_option("--top", flags->top, "layouts shown")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--json", flags->json, "print one JSON object with every layout");
  command->add_option("--svg", flags->svg, "also draw who holds what to this file");
  command->footer("Exit code 0: something fits; 3: nothing does; 1: not readable.");
  command->callback([flags, exit_code] {
    const auto fits = RunPlan(*flags);
    if (!fits.ok()) std::fprintf(stderr, "fulger plan: %s\n", Message(fits.status()).c_str());
    *exit_code = !fits.ok() ? 1 : *fits ? 0 : 3;
  });
}

}  // namespace fulger
