// A run as JSON (everything that repeats it and every time of every request) and as one HTML page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "coordinator/bench/load.h"
#include "coordinator/bench/summary.h"

namespace fulger::bench {

// How the run was set up, all of it shown by `compare` where two differ.
struct RunSetup {
  std::vector<std::string> command;
  std::string url, model, api, arrivals, mix, goal;
  uint64_t seed = 0;
  double started = 0;          // seconds since 1970
  nlohmann::json server_info;  // null: the server has none
};

nlohmann::json ResultJson(const RunSetup& setup, const LoadResult& result, const Goal& goal,
                          const std::vector<std::string>& books);
// The table for a terminal.
std::string ResultText(const nlohmann::json& result);
// Needs nothing from elsewhere: plots are SVG inside.
std::string ResultHtml(const nlohmann::json& result);
// Samples as SamplesOf gave them, from "requests" of ResultJson. INVALID_ARGUMENT: no such file's content.
absl::StatusOr<std::map<std::string, Samples>> SamplesFromJson(const nlohmann::json& result);

}  // namespace fulger::bench
