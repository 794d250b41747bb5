#include "coordinator/bench/result.h"

#include <sys/utsname.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <thread>

#include "base/version.h"

namespace fulger::bench {
namespace {

using nlohmann::json;

constexpr int kFormat = 1;  // raised when a reader of the old form would misread the new one

std::string FieldOf(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t begin = line.find_first_not_of(" \t", line.find(':') + 1);
    return begin == std::string::npos ? std::string() : line.substr(begin);
  }
  return {};
}

json Machine() {
  utsname name{};
  ::uname(&name);
  return {{"cpu", FieldOf("/proc/cpuinfo", "model name")},
          {"cores", std::thread::hardware_concurrency()},
          {"memory", FieldOf("/proc/meminfo", "MemTotal")},
          {"kernel", std::string(name.sysname) + " " + name.release}};
}

double Microseconds(double seconds) { return std::round(seconds * 1e6) / 1e6; }

std::string_view Name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kUnderWay:
      return "under way";
    case Outcome::kSucceeded:
      return "succeeded";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kCancelled:
      return "cancelled";
  }
  return "";
}

json RequestJson(const RequestRecord& r) {
  json tokens = json::array();
  for (const double at : r.tokens) tokens.push_back(Microseconds(at));
  json request = {{"session", r.session},
                  {"turn", r.turn},
                  {"due", Microseconds(r.due)},
                  {"sent", Microseconds(r.sent)},
                  {"end", Microseconds(r.end)},
                  {"outcome", Name(r.outcome)},
                  {"finish_reason", r.finish_reason},
                  {"prompt_tokens", r.prompt_tokens},
                  {"completion_tokens", r.completion_tokens},
                  {"cached_tokens", r.cached_tokens},
                  {"tokens", std::move(tokens)}};
  if (!r.error.empty()) request["error"] = r.error;
  return request;
}

json FigureJson(const Figure& f) { return {{"value", f.value}, {"low", f.low}, {"high", f.high}}; }

json MetricJson(const Metric& m) {
  json metric = {{"requests", m.requests}, {"samples", m.samples}, {"mean", FigureJson(m.mean)}};
  for (const auto& [name, figure] : m.percentiles) metric[name] = FigureJson(figure);
  return metric;
}

}  // namespace

json ResultJson(const RunSetup& setup, const LoadResult& result, const Goal& goal,
                const std::vector<std::string>& books) {
  json requests = json::array();
  int64_t prompt = 0, completion = 0, cached = 0, succeeded = 0, failed = 0, cancelled = 0;
  for (const RequestRecord& r : result.records) {
    requests.push_back(RequestJson(r));
    succeeded += r.outcome == Outcome::kSucceeded;
    failed += r.outcome == Outcome::kFailed;
    cancelled += r.outcome == Outcome::kCancelled;
    if (r.outcome != Outcome::kSucceeded) continue;
    prompt += r.prompt_tokens;
    completion += r.completion_tokens;
    cached += r.cached_tokens;
  }
  const double seconds = std::max(result.seconds, 1e-9);
  json metrics;
  for (const auto& [name, samples] : SamplesOf(result.records))
    metrics[name] = MetricJson(Summarise(samples));
  json out = {{"format", kFormat},
              {"command", setup.command},
              {"setup",
               {{"url", setup.url},
                {"model", setup.model},
                {"api", setup.api},
                {"arrivals", setup.arrivals},
                {"mix", setup.mix},
                {"goal", setup.goal},
                {"seed", setup.seed},
                {"version", kVersion},
                {"machine", Machine()},
                {"server_info", setup.server_info}}},
              {"started", setup.started},
              {"seconds", result.seconds},
              {"interrupted", result.interrupted},
              {"counts",
               {{"sent", result.sent},
                {"succeeded", succeeded},
                {"failed", failed},
                {"cancelled", cancelled},
                {"prompt_tokens", prompt},
                {"completion_tokens", completion},
                {"cached_tokens", cached},
                {"token_events", result.token_events}}},
              {"rates",
               {{"requests_per_second", static_cast<double>(succeeded) / seconds},
                {"output_tokens_per_second", static_cast<double>(completion) / seconds},
                {"tokens_per_second", static_cast<double>(prompt + completion) / seconds}}},
              {"metrics_ms", std::move(metrics)},
              {"books", {{"balance", books.empty()}, {"wrong", books}}},
              {"requests", std::move(requests)}};
  if (!goal.empty()) {
    const int64_t good = GoodRequests(result.records, goal);
    out["goodput"] = {
        {"goal_ms", goal},
        {"requests", good},
        {"share", result.sent > 0 ? static_cast<double>(good) / static_cast<double>(result.sent) : 0.0},
        {"requests_per_second", static_cast<double>(good) / seconds}};
  }
  return out;
}

std::string ResultText(const json& r) {
  const json& counts = r["counts"];
  const json& rates = r["rates"];
  std::string text = fmt::format(
      "{} sent, {} succeeded, {} failed, {} cancelled in {:.2f} s\n"
      "{} prompt tokens ({} cached), {} output tokens\n"
      "{:.2f} requests/s, {:.1f} output tokens/s, {:.1f} tokens/s\n",
      counts["sent"].get<int64_t>(), counts["succeeded"].get<int64_t>(), counts["failed"].get<int64_t>(),
      counts["cancelled"].get<int64_t>(), r["seconds"].get<double>(), counts["prompt_tokens"].get<int64_t>(),
      counts["cached_tokens"].get<int64_t>(), counts["completion_tokens"].get<int64_t>(),
      rates["requests_per_second"].get<double>(), rates["output_tokens_per_second"].get<double>(),
      rates["tokens_per_second"].get<double>());
  if (r.contains("goodput")) {
    const json& good = r["goodput"];
    text += fmt::format("goodput under {}: {} requests, {:.1f}%, {:.2f} requests/s\n",
                        r["setup"]["goal"].get<std::string>(), good["requests"].get<int64_t>(),
                        good["share"].get<double>() * 100, good["requests_per_second"].get<double>());
  }
  text += fmt::format("{:8}{:>26}", "ms", "mean (95% interval)");
  for (size_t s = 1; s < std::size(kStatistics); ++s) text += fmt::format("{:>30}", kStatistics[s]);
  text += "\n";
  for (const std::string_view name : kMetrics) {
    const json& metric = r["metrics_ms"][std::string(name)];
    text += fmt::format("{:8}", name);
    for (size_t s = 0; s < std::size(kStatistics); ++s) {
      const json& f = metric[std::string(kStatistics[s])];
      text += fmt::format("{:>{}}",
                          fmt::format("{:.2f} ({:.2f} to {:.2f})", f["value"].get<double>(),
                                      f["low"].get<double>(), f["high"].get<double>()),
                          s == 0 ? 26 : 30);
    }
    text += "\n";
  }
  return text;
}

absl::StatusOr<std::map<std::string, Samples>> SamplesFromJson(const json& result) {
  if (!result.is_object() || result.value("format", json()) != json(kFormat) ||
      !result.contains("requests")) {
    return InvalidArgument("expected a result of `fulger bench serve` in format {}", kFormat);
  }
  std::vector<RequestRecord> records;
  try {
    for (const json& request : result["requests"]) {
      RequestRecord r;
      r.outcome = request.at("outcome") == "succeeded" ? Outcome::kSucceeded : Outcome::kFailed;
      r.due = request.at("due");
      r.sent = request.at("sent");
      r.end = request.at("end");
      r.completion_tokens = request.at("completion_tokens");
      r.tokens = request.at("tokens").get<std::vector<double>>();
      records.push_back(std::move(r));
    }
  } catch (const json::exception& error) {
    return InvalidArgument("requests: {}", error.what());
  }
  return SamplesOf(records);
}

}  // namespace fulger::bench
