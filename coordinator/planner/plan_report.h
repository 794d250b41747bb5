// What `fulger plan` shows: a page to read, the same as JSON, and a picture of who holds what.
#pragma once

#include <string>
#include <vector>

#include "coordinator/planner/search.h"

namespace fulger {

struct PlanReport {
  const PlannedModel& model;
  const Cluster& cluster;
  const PlanWishes& wishes;
  const Candidates& found;
};

// A page: the best layouts, then the first in detail. `most`: rows of the table.
std::string PlanText(const PlanReport& report, size_t most);
// Everything, bytes of every rank of the first `most` layouts among it.
std::string PlanJson(const PlanReport& report, size_t most);
// The first layout: a box for each rank, by node.
std::string PlanSvg(const PlanReport& report);
// What nothing fits: the nearest layouts with their arithmetic, and what would fit.
std::string PlanRefusal(const PlanReport& report);

// The flags that serve needs for a candidate: --tp, --pp, ..., sizes of the caches among them.
std::vector<std::string> ServeFlagsOf(const PlanReport& report, const Candidate& candidate);

}  // namespace fulger
