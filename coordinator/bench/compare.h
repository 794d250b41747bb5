// Two results side by side.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/bench/summary.h"

namespace fulger::bench {

struct Comparison {
  struct Row {
    std::string name;  // "ttft p50, ms"
    double a = 0, b = 0;
    Figure ratio;  // of B to A; without an interval (rates) the bounds are the value
    bool higher_is_better = false;
    bool regression = false;  // the whole interval lies beyond the tolerance, on the worse side
  };
  std::vector<Row> rows;
  std::vector<std::string> differences;  // in set-up: "mix: A has ..., B has ..."
  std::vector<std::string> warnings;     // books of A or B that do not balance
  bool regressed() const;
};
// `tolerance` 0.05: up to 5% worse is no regression.
absl::StatusOr<Comparison> Compare(const nlohmann::json& a, const nlohmann::json& b, double tolerance);
std::string ComparisonText(const Comparison& comparison);
nlohmann::json ComparisonJson(const Comparison& comparison);

}  // namespace fulger::bench
