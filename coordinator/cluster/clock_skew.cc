#include "coordinator/cluster/clock_skew.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace fulger {
namespace {

std::string Span(double seconds) {
  if (seconds >= 120) return fmt::format("{:.0f} s", seconds);
  return seconds >= 0.1 ? fmt::format("{:.1f} s", seconds) : fmt::format("{:.1f} ms", 1e3 * seconds);
}

}  // namespace

double ClockSkew::at_least() const { return known() ? std::max(0.0, std::abs(seconds) - uncertainty) : 0; }

void SkewMeter::Asked(uint64_t id, TimePoint now, double wall) {
  id_ = id;
  asked_ = now;
  asked_wall_ = wall;
  open_ = true;
}

bool SkewMeter::Answered(uint64_t id, TimePoint now, double their_wall) {
  if (!open_ || id != id_) return false;
  open_ = false;
  // Its clock was read some time between the question and now.
  const double half = Seconds(now - asked_) / 2;
  if (half >= skew_.uncertainty) return false;
  skew_ = {.seconds = their_wall - (asked_wall_ + half), .uncertainty = half};
  return true;
}

std::string DescribeSkew(const ClockSkew& skew) {
  if (!skew.known()) return "not measured";
  if (skew.at_least() == 0) return fmt::format("equal to the coordinator's (to {})", Span(skew.uncertainty));
  return fmt::format("{} {} the coordinator's (known to {})", Span(std::abs(skew.seconds)),
                     skew.seconds > 0 ? "ahead of" : "behind", Span(skew.uncertainty));
}

std::string SkewConsequence(const ClockSkew& skew) {
  std::string text = "lines of different hosts' logs stand in the wrong order, and so do times of files";
  if (skew.at_least() >= kSkewBreaks) {
    text +=
        "; certificates (TLS) are refused as expired or not yet valid, Slurm's munge refuses credentials, "
        "and "
        "a server that drains before its job's time ends does so too early or too late";
  }
  return text +
         ". Deadlines of a start are not touched: they do not use this clock. Cure: chronyc tracking (or "
         "timedatectl) on that host, and let it follow the same time servers as the others";
}

}  // namespace fulger
