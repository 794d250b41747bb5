// fulger-random-checkpoint: writes random weights of the shape that a config.json says.
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>

#include "base/log.h"
#include "tests/bench/random_checkpoint.h"

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "fulger-random-checkpoint CONFIG_JSON DIR\n");
    return 2;
  }
  fulger::InitLogging("bench");
  std::ifstream file(argv[1]);
  const std::string config{std::istreambuf_iterator<char>(file), {}};
  const absl::Status status = fulger::WriteRandomCheckpoint(argv[2], config);
  if (!status.ok()) std::cerr << status << "\n";
  return status.ok() ? 0 : 1;
}
