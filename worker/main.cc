// fulger-worker: one rank. Dials the coordinator, gets its part of the model, loads it, and runs steps until
// told to end.
#include <CLI/CLI.hpp>

#include <csignal>
#include <string>

#include "base/log.h"
#include "base/version.h"
#include "worker/service/worker.h"

int main(int argc, char** argv) {
  CLI::App app("One rank of a Fulger replica", "fulger-worker");
  app.set_version_flag("--version", fulger::kVersion);
  fulger::WorkerOptions options;
  int join_seconds = 120;
  int operation_seconds = 60;
  app.add_option("--coordinator", options.coordinator,
                 "control address of the coordinator: HOST:PORT or unix:PATH")
      ->required();
  app.add_option("--device", options.device,
                 "cpu; cuda:N; or cuda, cuda:0,1,..: the GPU of this rank's place on its host, as mpirun or "
                 "srun say it")
      ->capture_default_str();
  app.add_option("--ranks-per-device", options.executor.ranks_per_device,
                 "ranks of this host that share a GPU")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--nccl-library", options.executor.nccl_library,
                 "NCCL to load for transport nccl; default: the machine's libnccl.so.2");
  app.add_option("--threads", options.executor.threads,
                 "CPU compute threads; 0: all cores this process may use")
      ->capture_default_str();
  app.add_option("--model", options.executor.model_dir_override,
                 "checkpoint folder on this host; default: the coordinator's path");
  app.add_option("--rank", options.rank, "rank to claim; default: the launcher's, or the next free one");
  app.add_option("--host", options.host,
                 "address that other workers dial; default: the one on the way to the coordinator");
  app.add_option("--join-timeout", join_seconds, "seconds to wait for the coordinator")
      ->capture_default_str();
  app.add_option("--operation-timeout", operation_seconds, "seconds that one exchange between ranks may take")
      ->capture_default_str();
  app.add_option("--kernels", options.executor.kernels,
                 "CPU instruction set: avx512, avx2 or portable; auto: the fastest here")
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  options.join_deadline = std::chrono::seconds(join_seconds);
  options.executor.operation_deadline = std::chrono::seconds(operation_seconds);
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on files is an error of the write
  fulger::InitLogging("worker");
  return fulger::RunWorker(options);
}
