// What a run has found out so far: one line of JSON for each answered question, appended as the answers come.
#pragma once

#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

struct Result {
  std::string id;
  std::string category;
  std::string response;
  std::string extraction;  // of an extractor model
  std::string parsed;
  std::string finish_reason;
  double score = 0;
  bool guessed = false;
  double seconds = 0;
};

// The file of a run. Its first line describes the run; another run's file is refused. What a crash left of a
// last line is cut off. One thread.
class ResultsFile {
 public:
  // Opens or creates it; `earlier` gets the results that are there. FAILED_PRECONDITION where the run was
  // another one.
  static absl::StatusOr<ResultsFile> Open(const std::string& path, std::string_view description,
                                          std::vector<Result>* earlier);
  // On disk (in the kernel's hands) when it returns.
  absl::Status Append(const Result& result);

 private:
  explicit ResultsFile(std::string path) : path_(std::move(path)) {}

  std::string path_;
  std::ofstream out_;
};

// A mean with its 95 % interval: Wilson's where every score is 0 or 1, else the normal one from the scores'
// variance.
struct Estimate {
  size_t count = 0;
  double mean = 0, low = 0, high = 0;
};
Estimate Mean(const std::vector<double>& scores);

}  // namespace fulger
