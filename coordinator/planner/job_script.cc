#include "coordinator/planner/job_script.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace fulger {
namespace {

constexpr std::string_view kPlain =
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=.,:/@%";

// Full nodes, and ranks of the last one that is not full (0: all are).
struct Nodes {
  int full = 0, rest = 0, per_node = 0;
  int count() const { return full + (rest > 0 ? 1 : 0); }
};

Nodes NodesOf(int ranks, const Cluster& cluster) {
  const int per_node = std::min(ranks, cluster.ranks_per_node);
  return {.full = ranks / per_node, .rest = ranks % per_node, .per_node = per_node};
}

std::vector<std::string> SlurmLines(const JobRequest& r, const Cluster& cluster) {
  const Nodes nodes = NodesOf(r.ranks, cluster);
  std::vector<std::string> lines = {"--job-name=" + r.name,
                                    "--time=" + r.walltime,
                                    "--signal=B:TERM@120",
                                    "--chdir=" + r.folder,
                                    "--output=" + r.folder + "/fulger-%j.log",
                                    fmt::format("--nodes={}", nodes.count()),
                                    fmt::format("--ntasks={}", r.ranks),
                                    fmt::format("--ntasks-per-node={}", nodes.per_node)};
  // Else Slurm evens the nodes out, and ranks of a stage part.
  if (nodes.rest > 0) lines.push_back(fmt::format("--distribution=plane={}", nodes.per_node));
  if (cluster.gpu) {
    lines.push_back(fmt::format("--gpus-per-node={}", nodes.per_node));
  } else {
    lines.push_back(fmt::format("--cpus-per-task={}", cluster.threads_per_rank));
  }
  for (const std::string& option : r.options) lines.push_back(option);
  for (std::string& line : lines) {
    const size_t equals = line.find('=');
    if (line.find(' ') != std::string::npos && equals != std::string::npos) {
      line = fmt::format("{}=\"{}\"", line.substr(0, equals), line.substr(equals + 1));
    }
    line = "#SBATCH " + line;
  }
  return lines;
}

std::vector<std::string> PbsLines(const JobRequest& r, const Cluster& cluster) {
  const Nodes nodes = NodesOf(r.ranks, cluster);
  const auto chunk = [&](int count, int ranks) {
    return fmt::format("{}:ncpus={}:mpiprocs={}{}", count, ranks * std::max(1, cluster.threads_per_rank),
                       ranks,
                       cluster.gpu ? fmt::format(":ngpus={}", ranks)
                                   : fmt::format(":ompthreads={}", cluster.threads_per_rank));
  };
  std::string select = chunk(nodes.full, nodes.per_node);
  if (nodes.rest > 0) select += "+" + chunk(1, nodes.rest);
  std::vector<std::string> lines = {"-N " + r.name, "-l walltime=" + r.walltime, "-j oe",
                                    "-l select=" + select, "-l place=scatter"};
  for (const std::string& option : r.options) lines.push_back(option);
  for (std::string& line : lines) line = "#PBS " + line;
  return lines;
}

}  // namespace

std::string ShellWord(std::string_view text) {
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string_view::npos) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

absl::StatusOr<std::string> JobScript(const JobRequest& request, const Cluster& cluster) {
  if (request.ranks < 1 || request.ranks > cluster.ranks()) {
    return InvalidArgument("a job of {} ranks: {} nodes of {} have {}", request.ranks, cluster.nodes,
                           cluster.ranks_per_node, cluster.ranks());
  }
  const bool slurm = request.scheduler == Scheduler::kSlurm;
  std::vector<std::string> lines = slurm ? SlurmLines(request, cluster) : PbsLines(request, cluster);
  lines.insert(lines.begin(), "#!/usr/bin/env bash");
  std::vector<std::pair<std::string, std::string>> variables = {
      {"FULGER_DEPLOY", request.deploy},
      {"FULGER_BIN", request.programs},
      {"FULGER_MODEL", request.model},
      {"FULGER_LAYOUT", fmt::format("{}", fmt::join(request.serve_flags, " "))},
      {"FULGER_DEVICE", cluster.gpu ? "cuda" : "cpu"},
      {"FULGER_PORT", std::to_string(request.port)}};
  if (!slurm && !cluster.gpu)
    variables.emplace_back("FULGER_THREADS", std::to_string(cluster.threads_per_rank));
  for (const auto& [name, value] : variables) {
    lines.push_back(fmt::format("export {}={}", name, ShellWord(value)));
  }
  // The shell stays the process that the scheduler signals.
  lines.push_back(
      fmt::format("exec bash \"$FULGER_DEPLOY\"/{}", slurm ? "slurm/serve.sbatch" : "pbs/serve.pbs"));
  std::string script;
  for (const std::string& line : lines) {
    if (line.find_first_of("\r\n") != std::string::npos) {
      return InvalidArgument("a line break in \"{}\"", line.substr(0, line.find_first_of("\r\n")));
    }
    script += line + "\n";
  }
  return script;
}

}  // namespace fulger
