#include "coordinator/planner/cluster.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <sstream>

namespace fulger {
namespace {

constexpr double kGiga = 1e9;
constexpr double kMicro = 1e-6;
constexpr int64_t kMiB = int64_t{1} << 20;
constexpr double kGiB = 1 << 30;

struct Gpu {
  std::string_view name;
  int64_t memory_mib;  // as the driver reports it
  double read_gb, tflops;
  double all_reduce_us, all_reduce_gb;  // NCCL over NVLink, eight GPUs
  std::string_view source;
};
// h200: copy and bfloat16 GEMM rates and NCCL 2.29 as measured on H200-SXM in NVIDIA's aiconfigurator data.
// The others: the data sheet's bandwidth times 0.9 and its dense bfloat16 rate times 0.8, the same shares.
constexpr Gpu kGpus[] = {
    {"a100-80", 81920, 1830, 250, 25, 230, "data sheet x 0.9 (memory) and x 0.8 (bf16)"},
    {"h100", 81559, 3000, 790, 20, 360, "data sheet x 0.9 (memory) and x 0.8 (bf16)"},
    {"h200", 143771, 4300, 790, 17.5, 460, "measured by others on H200-SXM"},
    {"b200", 183359, 7200, 1800, 17.5, 800, "data sheet x 0.9 (memory) and x 0.8 (bf16)"},
};

// Ranks of a stage that lie on the same node, on the node that has most.
int MostOnANode(const Cluster& cluster, int first, int count) {
  std::map<int, int> nodes;
  int most = 0;
  for (int r = first; r < first + count; ++r) most = std::max(most, ++nodes[cluster.node_of(r)]);
  return most;
}

double Of(const std::vector<double>& rates, int busy) {
  return rates[static_cast<size_t>(std::clamp(busy, 1, static_cast<int>(rates.size())) - 1)];
}

double AllReduceLatency(const Cluster& cluster, int ranks) {
  if (ranks <= 1 || cluster.all_reduce_seconds.empty()) return 0;
  const auto step = static_cast<int>(std::ceil(std::log2(ranks)));
  return Of(cluster.all_reduce_seconds, step);
}

absl::StatusOr<double> Number(const std::string& name, const std::string& text) {
  double value = 0;
  std::istringstream stream(text);
  stream >> value;
  if (!stream || !stream.eof() || !(value >= 0)) {
    return InvalidArgument("cluster: {} = {}: expected a number, at least 0", name, text);
  }
  return value;
}

absl::StatusOr<std::vector<double>> Numbers(const std::string& name, const std::vector<std::string>& inputs) {
  std::vector<double> values;
  for (const std::string& input : inputs) {
    ASSIGN_OR_RETURN(const double value, Number(name, input));
    values.push_back(value);
  }
  if (values.empty()) return InvalidArgument("cluster: {} needs a value", name);
  return values;
}

// One setting: takes the numbers that a file says.
using Setter = std::function<void(Cluster*, const std::vector<double>&)>;

std::vector<double> Scaled(std::vector<double> values, double by) {
  for (double& v : values) v *= by;
  return values;
}

const std::map<std::string, Setter>& Setters() {
  using V = const std::vector<double>&;
  static const auto* const setters = new std::map<std::string, Setter>{
      {"nodes", [](Cluster* c, V v) { c->nodes = static_cast<int>(v[0]); }},
      {"ranks-per-node", [](Cluster* c, V v) { c->ranks_per_node = static_cast<int>(v[0]); }},
      {"memory-gib", [](Cluster* c, V v) { c->memory_bytes = static_cast<int64_t>(v[0] * kGiB); }},
      {"reserve-gib", [](Cluster* c, V v) { c->reserve_bytes = static_cast<int64_t>(v[0] * kGiB); }},
      {"threads-per-rank", [](Cluster* c, V v) { c->threads_per_rank = static_cast<int>(v[0]); }},
      {"read-gb-per-second", [](Cluster* c, V v) { c->read_bytes_per_second = Scaled(v, kGiga); }},
      {"gflops", [](Cluster* c, V v) { c->flops_per_second = Scaled(v, kGiga); }},
      {"operation-us", [](Cluster* c, V v) { c->operation_seconds = v[0] * kMicro; }},
      {"all-reduce-us", [](Cluster* c, V v) { c->all_reduce_seconds = Scaled(v, kMicro); }},
      {"all-reduce-gb-per-second", [](Cluster* c, V v) { c->all_reduce_bytes_per_second = v[0] * kGiga; }},
      {"message-us", [](Cluster* c, V v) { c->message.latency_seconds = v[0] * kMicro; }},
      {"message-gb-per-second", [](Cluster* c, V v) { c->message.bytes_per_second = v[0] * kGiga; }},
      {"network-us", [](Cluster* c, V v) { c->network.latency_seconds = v[0] * kMicro; }},
      {"network-gb-per-second", [](Cluster* c, V v) { c->network.bytes_per_second = v[0] * kGiga; }},
      {"storage-gb-per-second", [](Cluster* c, V v) { c->storage_bytes_per_second = v[0] * kGiga; }},
  };
  return *setters;
}

absl::Status Check(const Cluster& c) {
  const auto positive = [](const std::vector<double>& v) {
    return !v.empty() && std::all_of(v.begin(), v.end(), [](double x) { return x > 0; });
  };
  if (c.nodes < 1 || c.ranks_per_node < 1 || c.ranks() > 8192) {
    return InvalidArgument("cluster: {} nodes with {} ranks each: expected 1 to 8192 ranks", c.nodes,
                           c.ranks_per_node);
  }
  if (c.threads_per_rank < 1 || c.memory_bytes < 1) {
    return InvalidArgument("cluster: threads-per-rank {} and memory-gib must be more than 0",
                           c.threads_per_rank);
  }
  if (!positive(c.read_bytes_per_second) || !positive(c.flops_per_second) ||
      !(c.all_reduce_bytes_per_second > 0) || !(c.message.bytes_per_second > 0) ||
      !(c.network.bytes_per_second > 0) || !(c.storage_bytes_per_second > 0)) {
    return InvalidArgument("cluster: every rate per second must be more than 0");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<std::string> GpuNames() {
  std::vector<std::string> names;
  for (const Gpu& gpu : kGpus) names.emplace_back(gpu.name);
  return names;
}

absl::StatusOr<Cluster> GpuCluster(std::string_view name) {
  for (const Gpu& gpu : kGpus) {
    if (gpu.name != name) continue;
    Cluster c;
    c.device = gpu.name;
    c.source = gpu.source;
    c.memory_bytes = gpu.memory_mib * kMiB;
    c.reserve_bytes = 3 * (int64_t{1} << 30);
    c.read_bytes_per_second = {gpu.read_gb * kGiga};
    c.flops_per_second = {gpu.tflops * 1e12};
    c.operation_seconds = 2 * kMicro;
    c.all_reduce_seconds = {gpu.all_reduce_us * kMicro};
    c.all_reduce_bytes_per_second = gpu.all_reduce_gb * kGiga;
    c.message = {10 * kMicro, gpu.all_reduce_gb / 2 * kGiga};
    c.network = {20 * kMicro, 50 * kGiga};
    c.storage_bytes_per_second = 10 * kGiga;
    return c;
  }
  return InvalidArgument("GPU \"{}\": expected a100-80, h100, h200 or b200; others by a cluster file", name);
}

Cluster CpuCluster(int ranks_per_node, int64_t memory_bytes, int cores) {
  Cluster c;
  c.device = "cpu";
  c.source = "assumed, not measured: write a cluster file with tests/bench/plan_bench.py";
  c.gpu = false;
  c.ranks_per_node = ranks_per_node;
  c.memory_bytes = memory_bytes;
  c.reserve_bytes = 64 * kMiB;
  c.threads_per_rank = std::max(1, cores / ranks_per_node);
  const int busy = std::max(1, cores);
  for (int t = 1; t <= busy; ++t) {
    c.read_bytes_per_second.push_back(std::min(12.0 * t, 150.0) * kGiga);
    c.flops_per_second.push_back(60.0 * t * kGiga);
  }
  c.operation_seconds = 3 * kMicro;
  c.all_reduce_seconds = {5 * kMicro, 10 * kMicro, 30 * kMicro};
  c.all_reduce_bytes_per_second = 4 * kGiga;
  c.message = {5 * kMicro, 4 * kGiga};
  c.network = {30 * kMicro, 10 * kGiga};
  c.storage_bytes_per_second = 1 * kGiga;
  return c;
}

absl::StatusOr<Cluster> ParseCluster(std::string_view text) {
  std::vector<CLI::ConfigItem> items;
  try {
    std::istringstream stream{std::string(text)};
    items = CLI::ConfigTOML().from_config(stream);
  } catch (const CLI::Error& error) {
    return InvalidArgument("cluster: {}", error.what());
  }
  Cluster cluster = CpuCluster(1, 0, 1);
  std::set<std::string> seen;
  for (const CLI::ConfigItem& item : items) {
    if (item.name == "++" || item.name == "--") continue;  // the parser's marks of a section
    if (!item.parents.empty()) return InvalidArgument("cluster: sections are not read");
    if (!seen.insert(item.name).second) return InvalidArgument("cluster: {} is said twice", item.name);
    if (item.name == "device") {
      if (seen.size() > 1) return InvalidArgument("cluster: device must come first, the rest builds on it");
      const std::string device = item.inputs.empty() ? "" : item.inputs[0];
      if (device == "cpu") continue;
      ASSIGN_OR_RETURN(cluster, GpuCluster(device));
      continue;
    }
    const auto setter = Setters().find(item.name);
    if (setter == Setters().end()) return InvalidArgument("cluster: unknown name {}", item.name);
    ASSIGN_OR_RETURN(const std::vector<double> values, Numbers(item.name, item.inputs));
    setter->second(&cluster, values);
  }
  if (seen.count("read-gb-per-second") != 0) cluster.source = "the cluster file";
  RETURN_IF_ERROR(Check(cluster));
  return cluster;
}

std::vector<StageRates> RatesOfStages(const Cluster& cluster, const Plan& plan, int64_t groups) {
  const Layout& layout = plan.layout;
  const int stages_at_work = static_cast<int>(std::min<int64_t>(layout.pp, std::max<int64_t>(1, groups)));
  std::vector<StageRates> all;
  for (int p = 0; p < layout.pp; ++p) {
    const int first = plan.stage_rank(p, 0);
    const int on_node = MostOnANode(cluster, first, layout.tp);
    StageRates rates;
    if (cluster.gpu) {
      rates.read_bytes_per_second = cluster.read_bytes_per_second[0];
      rates.flops_per_second = cluster.flops_per_second[0];
    } else {
      // Ranks of a node share its memory and its cores.
      const int all_on_node = MostOnANode(cluster, 0, layout.pp * layout.tp);
      const int working = std::min(all_on_node, on_node * stages_at_work);
      const int busy = working * cluster.threads_per_rank;
      rates.read_bytes_per_second = Of(cluster.read_bytes_per_second, busy) / working;
      rates.flops_per_second = Of(cluster.flops_per_second, busy) / working;
    }
    rates.operation_seconds = cluster.operation_seconds;
    const bool one_node = on_node == layout.tp;
    rates.collective = {AllReduceLatency(cluster, on_node), cluster.all_reduce_bytes_per_second};
    if (!one_node) {
      rates.collective.latency_seconds += 2 * cluster.network.latency_seconds;
      rates.collective.bytes_per_second =
          std::min(rates.collective.bytes_per_second, cluster.network.bytes_per_second);
    }
    const int next = plan.stage_rank((p + 1) % layout.pp, 0);
    rates.next = cluster.node_of(first) == cluster.node_of(next) ? cluster.message : cluster.network;
    all.push_back(rates);
  }
  return all;
}

}  // namespace fulger
