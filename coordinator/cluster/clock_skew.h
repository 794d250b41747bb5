// How far a host's clock is from ours: asked when it joins, and with every ping afterwards. What the round
// trip took is the uncertainty, and only what is beyond it counts.
#pragma once

#include <cstdint>
#include <limits>
#include <string>

#include "base/clock.h"

namespace fulger {

struct ClockSkew {
  double seconds = 0;  // its clock less ours
  double uncertainty = std::numeric_limits<double>::infinity();

  bool known() const { return uncertainty < std::numeric_limits<double>::infinity(); }
  // By so much at least, whatever the way took.
  double at_least() const;
};

// Hosts whose time is set by NTP or PTP agree within milliseconds.
inline constexpr double kSkewNamed = 0.5;  // lines of a log no longer tell what came first
inline constexpr double kSkewBreaks = 30;  // certificates and credentials begin to fail

class SkewMeter {
 public:
  void Asked(uint64_t id, TimePoint now, double wall);
  // False: not the answer to the last question, or less exact than what is known.
  bool Answered(uint64_t id, TimePoint now, double their_wall);
  const ClockSkew& skew() const { return skew_; }

 private:
  uint64_t id_ = 0;
  TimePoint asked_{};
  double asked_wall_ = 0;
  bool open_ = false;
  ClockSkew skew_;
};

// "12.3 s ahead of the coordinator's (known to 0.4 ms)"; "equal to the coordinator's (to 0.4 ms)".
std::string DescribeSkew(const ClockSkew& skew);
// What a skew beyond kSkewNamed breaks, and the cure. One line, which ends without a full stop.
std::string SkewConsequence(const ClockSkew& skew);

}  // namespace fulger
