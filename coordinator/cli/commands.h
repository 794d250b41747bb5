// One function per subcommand: adds it to the program, with a callback that runs it and writes the exit code.
#pragma once

#include <CLI/App.hpp>

namespace fulger {

void AddServe(CLI::App* app, int* exit_code);
void AddGenerate(CLI::App* app, int* exit_code);
void AddCache(CLI::App* app, int* exit_code);
void AddChat(CLI::App* app, int* exit_code);
void AddDoctor(CLI::App* app, int* exit_code);
void AddEval(CLI::App* app, int* exit_code);
void AddInspect(CLI::App* app, int* exit_code);
void AddPlan(CLI::App* app, int* exit_code);
void AddShard(CLI::App* app, int* exit_code);
void AddSubmit(CLI::App* app, int* exit_code);
void AddBench(CLI::App* app, int* exit_code);
// Below `bench`.
void AddBenchThroughput(CLI::App* bench, int* exit_code);
void AddBenchLatency(CLI::App* bench, int* exit_code);

}  // namespace fulger
