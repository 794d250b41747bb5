// Samples to figures: mean, percentiles, and how far another run of the same requests might be from them.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/bench/load.h"

namespace fulger::bench {

// The samples of one request stay together: inter-token latencies of one request are not independent.
using Samples = std::vector<std::vector<double>>;

// Linear between the two nearest ranks, as numpy's default. 0 <= p <= 100; `sorted` ascending, not empty.
double Percentile(const std::vector<double>& sorted, double p);

struct Figure {
  double value = 0, low = 0, high = 0;  // bounds of the 95% interval
};
struct Metric {
  int64_t requests = 0, samples = 0;
  Figure mean;
  std::map<std::string, Figure> percentiles;  // "p50", "p90", "p95", "p99"
};
// Intervals by a bootstrap that draws whole requests; seeded, so the same samples give the same bounds.
// Without samples: zeros.
Metric Summarise(const Samples& samples);

// The statistics of Metric in the order of kStatistics: of one draw of requests.
inline constexpr std::string_view kStatistics[] = {"mean", "p50", "p90", "p95", "p99"};
std::vector<double> StatisticsOf(std::vector<double> values);
// `repeat` resamples of requests, each as StatisticsOf.
std::vector<std::vector<double>> Bootstrap(const Samples& samples, uint64_t seed);
Figure Interval(double value, std::vector<double> resampled);

// Of the requests that succeeded, in milliseconds. "ttft": from sending to the first token. "tpot": from the
// first to the last, per token after the first. "itl": between two events. "e2e": from sending to the end.
// "delay": from being due to being sent, which is this client's own.
inline constexpr std::string_view kMetrics[] = {"ttft", "tpot", "itl", "e2e", "delay"};
std::map<std::string, Samples> SamplesOf(const std::vector<RequestRecord>& records);

// "ttft:500ms,tpot:50ms": milliseconds of each metric that a good request stays within.
using Goal = std::map<std::string, double>;
absl::StatusOr<Goal> ParseGoal(std::string_view text);
// Requests that succeeded within every bound (of "itl": each one of them).
int64_t GoodRequests(const std::vector<RequestRecord>& records, const Goal& goal);

}  // namespace fulger::bench
