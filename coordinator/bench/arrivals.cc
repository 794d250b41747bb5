#include "coordinator/bench/arrivals.h"

#include "base/check.h"
#include "coordinator/bench/fields.h"
#include "coordinator/bench/random.h"

namespace fulger::bench {

absl::StatusOr<ArrivalSpec> ParseArrivals(std::string_view text) {
  const std::vector<std::string_view> parts = Split(text, ':');
  ArrivalSpec spec;
  const auto bad = [&] {
    return InvalidArgument(
        "arrivals \"{}\": expected poisson:RATE, constant:RATE, burst:COUNT:SECONDS or closed:USERS, each a "
        "number above 0",
        text);
  };
  if ((parts[0] == "poisson" || parts[0] == "constant") && parts.size() == 2) {
    spec.kind = parts[0] == "poisson" ? ArrivalSpec::Kind::kPoisson : ArrivalSpec::Kind::kConstant;
    if (!ParseNumber(parts[1], &spec.rate) || spec.rate <= 0) return bad();
    return spec;
  }
  if (parts[0] == "burst" && parts.size() == 3) {
    spec.kind = ArrivalSpec::Kind::kBurst;
    if (!ParseCount(parts[1], &spec.count) || spec.count < 1) return bad();
    if (!ParseNumber(parts[2], &spec.seconds) || spec.seconds <= 0) return bad();
    return spec;
  }
  if (parts[0] == "closed" && parts.size() == 2) {
    spec.kind = ArrivalSpec::Kind::kClosed;
    if (!ParseCount(parts[1], &spec.count) || spec.count < 1) return bad();
    return spec;
  }
  return bad();
}

std::vector<double> ArrivalOffsets(const ArrivalSpec& spec, int64_t count, double duration, uint64_t seed) {
  std::vector<double> offsets;
  if (spec.kind == ArrivalSpec::Kind::kClosed) return offsets;
  FULGER_CHECK(count > 0 || duration > 0);
  Random random(seed);
  double at = 0;
  for (int64_t i = 0; count == 0 || i < count; ++i) {
    switch (spec.kind) {
      case ArrivalSpec::Kind::kPoisson:
        at += random.Exponential() / spec.rate;
        break;
      case ArrivalSpec::Kind::kConstant:
        at = static_cast<double>(i) / spec.rate;
        break;
      case ArrivalSpec::Kind::kBurst:
        at = static_cast<double>(i / spec.count) * spec.seconds;
        break;
      case ArrivalSpec::Kind::kClosed:
        break;
    }
    if (duration > 0 && at >= duration) break;
    offsets.push_back(at);
  }
  return offsets;
}

}  // namespace fulger::bench
