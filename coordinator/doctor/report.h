// An examination's report in three forms.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "coordinator/doctor/verdict.h"

namespace fulger {

// For a terminal: a table for each node (with many nodes, of those with findings only, unless `all`), the
// matrices, and last what to mend. `colour`: verdicts in colour.
std::string ReportText(const ExamReport& report, bool all, bool colour);
nlohmann::ordered_json ReportJson(const ExamReport& report);
// A page that needs nothing from elsewhere: findings, and the matrices as heat maps.
std::string ReportHtml(const ExamReport& report);

std::string RateText(double bytes_per_second);
std::string LatencyText(double seconds);

}  // namespace fulger
