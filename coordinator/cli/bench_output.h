// What the measuring commands share: how they were called, and where their results go.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace fulger {

inline constexpr int kUnbalanced = 3;  // the exit code of a run whose books do not balance

// As the shell gave it. Keys come from files and the environment, so none is in it.
std::vector<std::string> CommandLine();
absl::Status WriteResult(const std::string& path, const std::string& text);
// A line on standard error that is written over; where that is a file, a line of its own.
void ShowProgressLine(const std::string& line);

}  // namespace fulger
