#include "coordinator/cli/bench_output.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace fulger {

std::vector<std::string> CommandLine() {
  std::ifstream file("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  return words;
}

absl::Status WriteResult(const std::string& path, const std::string& text) {
  std::ofstream file(path);
  file << text;
  if (!file.flush()) return Unavailable("{}: cannot be written", path);
  return absl::OkStatus();
}

void ShowProgressLine(const std::string& line) {
  const bool terminal = ::isatty(2) != 0;
  std::fprintf(stderr, "%s%s%s", terminal ? "\r" : "", line.c_str(), terminal ? "\033[K" : "\n");
}

}  // namespace fulger
