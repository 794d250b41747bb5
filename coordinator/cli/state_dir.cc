#include "coordinator/cli/state_dir.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"

namespace fulger {
namespace {

double Fraction(int64_t used, int64_t total) {
  return total > 0 ? static_cast<double>(used) / static_cast<double>(total) : 0;
}

double BytesOf(const RankInfo& rank, const char* what) {
  const auto found = rank.bytes.find(what);
  return found == rank.bytes.end() ? 0 : static_cast<double>(found->second);
}

}  // namespace

void AddStateDirFlags(CLI::App* app, StateDirFlags* flags) {
  CLI::Option* dir = app->add_option("--state-dir", flags->dir,
                                     "folder that all ranks see: requests that still run at the end are "
                                     "saved there, and the next server goes "
                                     "on with them. Default: they are cancelled");
  app->add_option("--save-timeout", flags->save_seconds,
                  "seconds that saving may take after the drain, where no end of the job is known")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->needs(dir);
  app->add_option("--state-keep", flags->keep_hours,
                  "hours after which saved requests that nobody came back for are removed")
      ->check(CLI::PositiveNumber)
      ->capture_default_str()
      ->needs(dir);
}

absl::StatusOr<std::unique_ptr<StateDir>> StateDir::Open(const StateDirFlags& flags, Deployment* deployment) {
  if (flags.dir.empty()) return nullptr;
  std::unique_ptr<StateDir> state(new StateDir(flags, deployment));
  ASSIGN_OR_RETURN(state->requests_,
                   SavedRequests::Open({.dir = flags.dir,
                                        .model = {.fingerprint = deployment->fingerprint(),
                                                  .plan_hash = deployment->plan().hash,
                                                  .layout = ToString(deployment->plan().layout),
                                                  .block_size = deployment->flags().block_size,
                                                  .weights = deployment->flags().weight_dtype},
                                        .keep_seconds = flags.keep_hours * 3600}));
  return state;
}

std::chrono::seconds StateDir::SaveTime() const {
  const EngineStats stats = deployment_->engine().Stats();
  const double blocks = Fraction(stats.blocks_used, stats.blocks_total);
  const double slots = Fraction(stats.slots_used, stats.slots_total);
  double bytes = 0;
  for (size_t i = 0; i < deployment_->replicas(); ++i) {
    for (const RankInfo& rank : deployment_->replica(i).Info().ranks) {
      bytes += blocks * BytesOf(rank, "kv") + slots * BytesOf(rank, "slots");
    }
  }
  return fulger::SaveTime(bytes, requests_->bytes_per_second());
}

void StateDir::DrainAndSave(std::chrono::seconds drain, std::optional<WallClock::time_point> end) {
  Engine& engine = deployment_->engine();
  if (engine.Settle(drain)) return;
  std::chrono::seconds limit = std::max(std::chrono::seconds(flags_.save_seconds), SaveTime());
  if (end.has_value()) {
    const auto left = std::chrono::duration_cast<std::chrono::seconds>(SaveEnd(*end) - WallClock::now());
    limit = std::clamp(left, std::chrono::seconds(1), limit);
  }
  const absl::StatusOr<std::string> folder = requests_->NewFolder();
  if (!folder.ok()) {
    LogError("nothing is saved: {}", Message(folder.status()));
    engine.Drain(std::chrono::seconds(0));
    return;
  }
  const auto begin = std::chrono::steady_clock::now();
  LogInfo("{} requests still run: saving them, in at most {} s",
          engine.Stats().running + engine.Stats().waiting, limit.count());
  const std::vector<v1::SavedRequest> requests = engine.Suspend(*folder, limit);
  const auto states = std::ranges::count_if(requests, &v1::SavedRequest::has_state);
  if (const absl::Status committed = requests_->Commit(*folder, requests); !committed.ok()) {
    LogError("nothing is saved: {}", Message(committed));
    return;
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  LogInfo(
      "saved {} requests, {} of them with their states, in {:.1f} s: the next server with --state-dir {} "
      "goes on with them",
      requests.size(), states, took.count(), flags_.dir);
}

}  // namespace fulger
