#include "coordinator/bench/compare.h"

#include <algorithm>

#include "coordinator/bench/result.h"

namespace fulger::bench {
namespace {

using nlohmann::json;

constexpr size_t kShownValue = 160;  // of a difference

std::string Shown(const json& value) {
  std::string text = value.dump();
  if (text.size() > kShownValue) text = text.substr(0, kShownValue) + "...";
  return text;
}

// What differs, named by its path. Lists are compared whole.
void Differences(const std::string& path, const json& a, const json& b, std::vector<std::string>* out) {
  if (a == b) return;
  if (!a.is_object() || !b.is_object()) {
    out->push_back(fmt::format("{}: A has {}, B has {}", path, Shown(a), Shown(b)));
    return;
  }
  json keys = a;
  keys.update(b);
  for (const auto& [key, unused] : keys.items()) {
    Differences(path.empty() ? key : path + "." + key, a.value(key, json()), b.value(key, json()), out);
  }
}

Figure Ratio(const Samples& a, const Samples& b, size_t statistic, double value) {
  const auto of_a = Bootstrap(a, 1), of_b = Bootstrap(b, 2);
  std::vector<double> ratios;
  for (size_t i = 0; i < std::min(of_a.size(), of_b.size()); ++i) {
    if (of_a[i][statistic] > 0) ratios.push_back(of_b[i][statistic] / of_a[i][statistic]);
  }
  return Interval(value, std::move(ratios));
}

std::vector<double> Flat(const Samples& samples) {
  std::vector<double> all;
  for (const auto& one : samples) all.insert(all.end(), one.begin(), one.end());
  return all;
}

bool Regressed(const Comparison::Row& row, double tolerance) {
  return row.higher_is_better ? row.ratio.high < 1 - tolerance : row.ratio.low > 1 + tolerance;
}

}  // namespace

bool Comparison::regressed() const {
  return std::any_of(rows.begin(), rows.end(), [](const Row& row) { return row.regression; });
}

absl::StatusOr<Comparison> Compare(const json& a, const json& b, double tolerance) {
  const auto samples_a = SamplesFromJson(a), samples_b = SamplesFromJson(b);
  if (!samples_a.ok()) return Annotate(samples_a.status(), "A");
  if (!samples_b.ok()) return Annotate(samples_b.status(), "B");
  Comparison out;
  for (const auto& [name, result] : {std::pair{"A", &a}, {"B", &b}}) {
    for (const json& line : result->value("/books/wrong"_json_pointer, json::array())) {
      out.warnings.push_back(fmt::format("{}: the books do not balance: {}", name, Shown(line)));
    }
  }
  Differences("", a.value("setup", json::object()), b.value("setup", json::object()), &out.differences);
  for (const char* const rate : {"requests_per_second", "output_tokens_per_second", "tokens_per_second"}) {
    const json::json_pointer at(std::string("/rates/") + rate);
    Comparison::Row row{.name = rate, .a = a.value(at, 0.0), .b = b.value(at, 0.0)};
    const double ratio = row.a > 0 ? row.b / row.a : 0;
    row.ratio = {ratio, ratio, ratio};
    row.higher_is_better = true;
    row.regression = Regressed(row, tolerance);
    out.rows.push_back(std::move(row));
  }
  for (const std::string_view name : kMetrics) {
    if (name == "delay") continue;  // of the client, not of the server
    const Samples& of_a = samples_a->at(std::string(name));
    const Samples& of_b = samples_b->at(std::string(name));
    const std::vector<double> all_a = Flat(of_a), all_b = Flat(of_b);
    if (all_a.empty() || all_b.empty()) continue;
    const std::vector<double> values_a = StatisticsOf(all_a), values_b = StatisticsOf(all_b);
    for (size_t s = 0; s < std::size(kStatistics); ++s) {
      Comparison::Row row{
          .name = fmt::format("{} {}, ms", name, kStatistics[s]), .a = values_a[s], .b = values_b[s]};
      row.ratio = Ratio(of_a, of_b, s, row.a > 0 ? row.b / row.a : 0);
      row.regression = Regressed(row, tolerance);
      out.rows.push_back(std::move(row));
    }
  }
  return out;
}

std::string ComparisonText(const Comparison& comparison) {
  std::string text;
  for (const std::string& line : comparison.warnings) text += line + "\n";
  if (!comparison.differences.empty()) text += "Set up differently:\n";
  for (const std::string& line : comparison.differences) text += "  " + line + "\n";
  text += fmt::format("{:26}{:>14}{:>14}  {}\n", "", "A", "B", "B / A (95% interval)");
  for (const Comparison::Row& row : comparison.rows) {
    text += fmt::format("{:26}{:14.3f}{:14.3f}  {:.3f} ({:.3f} to {:.3f}){}\n", row.name, row.a, row.b,
                        row.ratio.value, row.ratio.low, row.ratio.high, row.regression ? "  REGRESSION" : "");
  }
  return text;
}

json ComparisonJson(const Comparison& comparison) {
  json rows = json::array();
  for (const Comparison::Row& row : comparison.rows) {
    rows.push_back({{"name", row.name},
                    {"a", row.a},
                    {"b", row.b},
                    {"ratio", row.ratio.value},
                    {"low", row.ratio.low},
                    {"high", row.ratio.high},
                    {"regression", row.regression}});
  }
  return {{"rows", std::move(rows)},
          {"differences", comparison.differences},
          {"warnings", comparison.warnings},
          {"regressed", comparison.regressed()}};
}

}  // namespace fulger::bench
