// The lines of a batch's input file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "coordinator/jobs/job_store.h"

namespace fulger {

inline constexpr size_t kMaxBatchLines = 50'000;

struct BatchInput {
  std::vector<BatchLine> lines;  // numbered from 1 as in the file; empty where there are errors
  std::string errors;            // a JSON list of {code, line, message, param}, at most 100; empty: none
};

// Each line: {"custom_id": unique, "method": "POST", "url": `endpoint`, "body": {...}}. Empty lines are left
// out.
BatchInput ParseBatchFile(std::string_view content, std::string_view endpoint);

}  // namespace fulger
