#include "coordinator/bench/summary.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "coordinator/bench/fields.h"
#include "coordinator/bench/random.h"

namespace fulger::bench {
namespace {

constexpr double kWorkBound = 2e7;  // samples sorted for one metric's intervals
constexpr int kMaxResamples = 500, kMinResamples = 100;
constexpr uint64_t kSeed = 20240611;

std::map<std::string, std::vector<double>> TimesOf(const RequestRecord& record) {
  constexpr double kMs = 1000;
  std::map<std::string, std::vector<double>> times;
  times["e2e"] = {(record.end - record.sent) * kMs};
  times["delay"] = {(record.sent - record.due) * kMs};
  if (record.tokens.empty()) return times;
  times["ttft"] = {(record.tokens.front() - record.sent) * kMs};
  for (size_t i = 1; i < record.tokens.size(); ++i) {
    times["itl"].push_back((record.tokens[i] - record.tokens[i - 1]) * kMs);
  }
  if (record.completion_tokens > 1) {
    times["tpot"] = {(record.tokens.back() - record.tokens.front()) * kMs /
                     static_cast<double>(record.completion_tokens - 1)};
  }
  return times;
}

}  // namespace

double Percentile(const std::vector<double>& sorted, double p) {
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(rank);
  if (below + 1 >= sorted.size()) return sorted.back();
  return std::lerp(sorted[below], sorted[below + 1], rank - static_cast<double>(below));
}

std::vector<double> StatisticsOf(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const double sum = std::accumulate(values.begin(), values.end(), 0.0);
  return {sum / static_cast<double>(values.size()), Percentile(values, 50), Percentile(values, 90),
          Percentile(values, 95), Percentile(values, 99)};
}

std::vector<std::vector<double>> Bootstrap(const Samples& samples, uint64_t seed) {
  size_t total = 0;
  for (const auto& of_request : samples) total += of_request.size();
  std::vector<std::vector<double>> drawn;
  if (total == 0) return drawn;
  const int repeats =
      std::clamp(static_cast<int>(kWorkBound / static_cast<double>(total)), kMinResamples, kMaxResamples);
  Random random(seed);
  std::vector<double> values;
  while (static_cast<int>(drawn.size()) < repeats) {
    values.clear();
    for (size_t i = 0; i < samples.size(); ++i) {
      const auto& one = samples[static_cast<size_t>(random.Below(static_cast<int64_t>(samples.size())))];
      values.insert(values.end(), one.begin(), one.end());
    }
    if (!values.empty()) drawn.push_back(StatisticsOf(values));
  }
  return drawn;
}

Figure Interval(double value, std::vector<double> resampled) {
  if (resampled.empty()) return {value, value, value};
  std::sort(resampled.begin(), resampled.end());
  return {value, Percentile(resampled, 2.5), Percentile(resampled, 97.5)};
}

Metric Summarise(const Samples& samples) {
  Metric metric;
  std::vector<double> all;
  for (const auto& of_request : samples) {
    metric.requests += of_request.empty() ? 0 : 1;
    all.insert(all.end(), of_request.begin(), of_request.end());
  }
  metric.samples = static_cast<int64_t>(all.size());
  const bool none = all.empty();
  const std::vector<double> values =
      none ? std::vector<double>(std::size(kStatistics)) : StatisticsOf(std::move(all));
  const auto drawn = Bootstrap(samples, kSeed);
  for (size_t s = 0; s < std::size(kStatistics); ++s) {
    std::vector<double> resampled;
    for (const auto& draw : drawn) resampled.push_back(draw[s]);
    const Figure figure = Interval(values[s], std::move(resampled));
    if (s == 0) {
      metric.mean = figure;
    } else {
      metric.percentiles[std::string(kStatistics[s])] = figure;
    }
  }
  return metric;
}

std::map<std::string, Samples> SamplesOf(const std::vector<RequestRecord>& records) {
  std::map<std::string, Samples> samples;
  for (const std::string_view name : kMetrics) samples[std::string(name)];
  for (const RequestRecord& record : records) {
    if (record.outcome != Outcome::kSucceeded) continue;
    for (auto& [name, values] : TimesOf(record)) samples[name].push_back(std::move(values));
  }
  return samples;
}

absl::StatusOr<Goal> ParseGoal(std::string_view text) {
  Goal goal;
  for (const std::string_view part : Split(text, ',')) {
    const std::string_view name = part.substr(0, part.find(':'));
    std::string_view time = name.size() == part.size() ? std::string_view() : part.substr(name.size() + 1);
    double scale = 0;
    if (time.ends_with("ms")) {
      scale = 1;
      time.remove_suffix(2);
    } else if (time.ends_with('s')) {
      scale = 1000;
      time.remove_suffix(1);
    }
    double value = 0;
    const bool known = std::find(std::begin(kMetrics), std::end(kMetrics), name) != std::end(kMetrics);
    if (!known || scale == 0 || !ParseNumber(time, &value) || value <= 0) {
      return InvalidArgument(
          "goal \"{}\": {}: expected ttft, tpot, itl or e2e and a time, as in ttft:500ms,e2e:10s", text,
          part);
    }
    goal[std::string(name)] = value * scale;
  }
  return goal;
}

int64_t GoodRequests(const std::vector<RequestRecord>& records, const Goal& goal) {
  return std::count_if(records.begin(), records.end(), [&](const RequestRecord& record) {
    if (record.outcome != Outcome::kSucceeded) return false;
    const auto times = TimesOf(record);
    return std::all_of(goal.begin(), goal.end(), [&](const auto& bound) {
      const auto found = times.find(bound.first);
      return found == times.end() || std::all_of(found->second.begin(), found->second.end(),
                                                 [&](double time) { return time <= bound.second; });
    });
  });
}

}  // namespace fulger::bench
