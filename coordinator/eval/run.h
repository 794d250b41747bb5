// Asks a server all questions of a benchmark that an earlier run has not had answered.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/cli/http_client.h"
#include "coordinator/eval/benchmark.h"
#include "coordinator/eval/question_file.h"
#include "coordinator/eval/results.h"

namespace fulger {

struct Extractor {
  HttpClient client;
  std::string model;
};

struct RunSettings {
  Benchmark benchmark = Benchmark::kExact;
  RequestSettings request;
  int parallel = 4;
  int attempts = 6;                            // of one question, while the server is full or away
  std::chrono::milliseconds first_pause{500};  // doubled after each attempt
  std::optional<Extractor> extractor;
};

// Appends to `file` and `results` as answers come; `progress` is called after each one, under a lock. A
// question that fails for good stops the run with its error, after those in flight have ended; what was
// answered stays in the file.
absl::Status RunBenchmark(const HttpClient& client, const RunSettings& settings,
                          const std::vector<const Question*>& questions, ResultsFile* file,
                          std::vector<Result>* results, const std::function<void()>& progress);

}  // namespace fulger
