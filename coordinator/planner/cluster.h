// The machine that a plan is for: how many ranks, what each may hold, how fast it reads, computes and talks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "model/cost/step_cost.h"
#include "model/layout.h"

namespace fulger {

// Rates are of what a program reaches, not of the data sheet's peak; `source` says where they come from.
struct Cluster {
  std::string device;  // "h200", ...; "cpu"
  std::string source;
  bool gpu = true;
  int nodes = 1;
  int ranks_per_node = 8;
  int64_t memory_bytes = 0;   // of a GPU; of a whole node where ranks are on CPUs
  int64_t reserve_bytes = 0;  // per rank: what a plan cannot know (program, CUDA context, NCCL)
  int threads_per_rank = 1;   // CPU
  // GPU: one entry, of one device. CPU: of a node with 1, 2, 3, ... busy threads; the last for all beyond.
  std::vector<double> read_bytes_per_second;
  std::vector<double> flops_per_second;
  double operation_seconds = 0;
  std::vector<double> all_reduce_seconds;  // of no bytes, between 2, 4, 8, ... ranks of a node
  double all_reduce_bytes_per_second = 0;
  CollectiveRates message;              // between two ranks of a node
  CollectiveRates network;              // between nodes, per rank
  double storage_bytes_per_second = 0;  // of the file system, all nodes together

  int ranks() const { return nodes * ranks_per_node; }
  // Ranks lie on nodes in their order.
  int node_of(int rank) const { return rank / ranks_per_node; }
};

// "a100-80", "h100", "h200", "b200". The rates of a GPU are those that other engines reach; ours has not run
// there, and a plan says so.
absl::StatusOr<Cluster> GpuCluster(std::string_view gpu);
std::vector<std::string> GpuNames();
// Ranks on this machine's cores. Rates that nobody measured: see tests/bench/plan_bench.py, which writes a
// cluster file.
Cluster CpuCluster(int ranks_per_node, int64_t memory_bytes, int cores);

// TOML, "name = value" lines; `device` first says what the others start from. Unknown names are refused.
//   device = "h200" | ... | "cpu"      nodes = 2            ranks-per-node = 8      memory-gib = 140
//   reserve-gib = 3                    threads-per-rank = 1  read-gb-per-second = [12.5, 21]
//   gflops = [90, 180]                 operation-us = 3      all-reduce-us = [2, 20]
//   all-reduce-gb-per-second = 4       message-us = 5        message-gb-per-second = 4
//   network-us = 10                    network-gb-per-second = 50                   storage-gb-per-second =
//   10
absl::StatusOr<Cluster> ParseCluster(std::string_view text);

// The rates of every stage of a plan while `groups` groups of sequences are in the pipeline.
std::vector<StageRates> RatesOfStages(const Cluster& cluster, const Plan& plan, int64_t groups);

}  // namespace fulger
