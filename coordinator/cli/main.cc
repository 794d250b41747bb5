// fulger: the coordinator and the tools around it.
#include <CLI/CLI.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "base/version.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/config_file.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on files is an error of the write
  CLI::App app("Fulger: distributed inference for MiniMax-VL-01 and MiniMax-Text-01", "fulger");
  app.set_version_flag("--version", fulger::kVersion);
  app.require_subcommand(1);
  int exit_code = 0;
  fulger::AddServe(&app, &exit_code);
  fulger::AddGenerate(&app, &exit_code);
  fulger::AddChat(&app, &exit_code);
  fulger::AddEval(&app, &exit_code);
  fulger::AddCache(&app, &exit_code);
  fulger::AddInspect(&app, &exit_code);
  fulger::AddPlan(&app, &exit_code);
  fulger::AddShard(&app, &exit_code);
  fulger::AddSubmit(&app, &exit_code);
  fulger::AddDoctor(&app, &exit_code);
  fulger::AddBench(&app, &exit_code);
  auto arguments = fulger::ExpandConfigFile(std::vector<std::string>(argv + 1, argv + argc));
  if (!arguments.ok()) {
    std::fprintf(stderr, "fulger: %s\n", fulger::Message(arguments.status()).c_str());
    return 2;
  }
  std::reverse(arguments->begin(), arguments->end());  // CLI11 takes them from the back
  try {
    app.parse(*arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  }
  return exit_code;
}
