// When the job that this server runs in ends, so that it drains before it is killed.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>

#include "base/status.h"

namespace fulger {

using WallClock = std::chrono::system_clock;

// `flag`: seconds since 1970 (--end-time); empty: SLURM_JOB_END_TIME, where Slurm sets it. Nothing: no end is
// known. `getenv` is std::getenv but in tests.
absl::StatusOr<std::optional<WallClock::time_point>> JobEnd(
    const std::string& flag, const std::function<const char*(const char*)>& getenv = {});

// When saving has to be over: what is left then is for ranks and listeners.
WallClock::time_point SaveEnd(WallClock::time_point end);

// When to begin: running requests get `drain` seconds, then what still runs is saved.
WallClock::time_point DrainStart(WallClock::time_point end, std::chrono::seconds drain,
                                 std::chrono::seconds save);

// How long it may take to save so many bytes: the rate was measured on an idle file system.
std::chrono::seconds SaveTime(double bytes, double bytes_per_second);

}  // namespace fulger
