#include "coordinator/cli/walltime.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

namespace fulger {
namespace {

constexpr const char* kVariable = "SLURM_JOB_END_TIME";
constexpr auto kToStopRanks = std::chrono::seconds(15);

}  // namespace

absl::StatusOr<std::optional<WallClock::time_point>> JobEnd(
    const std::string& flag, const std::function<const char*(const char*)>& getenv) {
  const char* variable = getenv ? getenv(kVariable) : std::getenv(kVariable);
  const std::string text = !flag.empty() ? flag : variable != nullptr ? variable : "";
  if (text.empty()) return std::optional<WallClock::time_point>();
  int64_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  constexpr int64_t kMost = int64_t{1} << 33;  // a clock holds nanoseconds
  if (error != std::errc() || end != text.data() + text.size() || seconds <= 0 || seconds > kMost) {
    return InvalidArgument("{} {}: expected seconds since 1970 (date +%s)",
                           flag.empty() ? kVariable : "--end-time", text);
  }
  return std::optional(WallClock::time_point(std::chrono::seconds(seconds)));
}

WallClock::time_point SaveEnd(WallClock::time_point end) { return end - kToStopRanks; }

WallClock::time_point DrainStart(WallClock::time_point end, std::chrono::seconds drain,
                                 std::chrono::seconds save) {
  return SaveEnd(end) - drain - save;
}

std::chrono::seconds SaveTime(double bytes, double bytes_per_second) {
  if (bytes <= 0) return std::chrono::seconds(0);
  constexpr double kSlower = 2;    // than measured: many ranks write, and others use the file system
  constexpr double kMost = 86400;  // a rate of nearly nothing
  const double seconds = bytes_per_second > 0 ? kSlower * bytes / bytes_per_second : kMost;
  return std::chrono::seconds(2 + static_cast<int64_t>(std::ceil(std::min(seconds, kMost))));
}

}  // namespace fulger
