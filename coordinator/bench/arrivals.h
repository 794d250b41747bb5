// When requests are sent.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger::bench {

struct ArrivalSpec {
  enum class Kind : uint8_t { kPoisson, kConstant, kBurst, kClosed } kind = Kind::kPoisson;
  double rate = 1;     // poisson, constant: sessions per second
  int64_t count = 1;   // burst: so many at once; closed: users, each with one request under way
  double seconds = 1;  // burst: between two of them
};
// "poisson:RATE", "constant:RATE", "burst:COUNT:SECONDS" or "closed:USERS".
absl::StatusOr<ArrivalSpec> ParseArrivals(std::string_view text);

// The next sessions of an open loop, seconds from the start, ascending: at most `count` (0: any number) and
// none at or after `duration` (0: no bound). One of both must bound it. Empty for a closed loop.
std::vector<double> ArrivalOffsets(const ArrivalSpec& spec, int64_t count, double duration, uint64_t seed);

}  // namespace fulger::bench
