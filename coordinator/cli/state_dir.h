// --state-dir: what still runs when the server has to stop is saved there, and what is there goes on.
#pragma once

#include <CLI/App.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/status.h"
#include "coordinator/cli/deployment.h"
#include "coordinator/cli/walltime.h"
#include "coordinator/saved/saved_requests.h"

namespace fulger {

struct StateDirFlags {
  std::string dir;          // empty: nothing is saved
  int64_t keep_hours = 72;  // what nobody came back for
  int save_seconds = 60;    // where no end of the job is known
};
void AddStateDirFlags(CLI::App* app, StateDirFlags* flags);

class StateDir {
 public:
  // Null without a folder. An error: nothing could be saved there, which is better known now. The deployment
  // outlives it.
  static absl::StatusOr<std::unique_ptr<StateDir>> Open(const StateDirFlags& flags, Deployment* deployment);

  SavedRequests* requests() { return requests_.get(); }
  // What saving all that runs now may take.
  std::chrono::seconds SaveTime() const;
  // Gives running requests `drain`, then saves those that are left until `end` (none: within --save-timeout,
  // or as long as it may take). When it returns the engine is empty.
  void DrainAndSave(std::chrono::seconds drain, std::optional<WallClock::time_point> end);

 private:
  StateDir(StateDirFlags flags, Deployment* deployment) : flags_(std::move(flags)), deployment_(deployment) {}

  const StateDirFlags flags_;
  Deployment* const deployment_;
  std::unique_ptr<SavedRequests> requests_;
};

}  // namespace fulger
