// fulger bench latency: runs the program that steps a rank by hand and times every op.
#include <CLI/CLI.hpp>

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "coordinator/cli/commands.h"
#include "coordinator/cluster/launcher.h"

namespace fulger {
namespace {

// Returns only if it could not be started.
std::string Become(const std::string& program, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  execv(program.c_str(), argv.data());
  return std::strerror(errno);
}

}  // namespace

void AddBenchLatency(CLI::App* bench, int* exit_code) {
  CLI::App* command =
      bench->add_subcommand("latency", "steps of a model on this machine, op by op, against its limits");
  command->set_help_flag();  // everything goes to the program, --help too
  command->prefix_command();
  command->callback([command, exit_code] {
    const std::string program = BesideThisProgram("fulger-step-bench");
    const std::string why = Become(program, command->remaining());
    std::fprintf(stderr, "fulger bench latency: %s: %s; `make` builds it beside this program\n",
                 program.c_str(), why.c_str());
    *exit_code = 1;
  });
}

}  // namespace fulger
