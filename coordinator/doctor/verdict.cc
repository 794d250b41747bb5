#include "coordinator/doctor/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <optional>

namespace fulger {
namespace {

constexpr double kSlowReader = 0.5;  // of the median node

Level Worst(const std::vector<Finding>& findings) {
  Level worst = Level::kOk;
  for (const Finding& finding : findings) worst = std::max(worst, finding.level);
  return worst;
}

// A property in which nodes must be alike: those that differ from what most have are named.
struct Alike {
  std::string check;
  std::function<std::string(const RankRecord&)> of;  // empty: not known
  std::string cause, cure;
  Level level = Level::kFail;
};

const RankRecord* LookedAt(const ExamRecord& record, const NodeReport& node) {
  for (const int r : node.ranks) {
    const RankRecord& rank = record.ranks[static_cast<size_t>(r)];
    if (rank.node.has_value() && rank.facts.has_value()) return &rank;
  }
  return nullptr;
}

void CheckAlike(const ExamRecord& record, const Alike& alike, ExamReport* report) {
  std::map<std::string, size_t> counts;
  for (const NodeReport& node : report->nodes) {
    const RankRecord* rank = LookedAt(record, node);
    if (const std::string value = rank == nullptr ? "" : alike.of(*rank); !value.empty()) ++counts[value];
  }
  if (counts.size() < 2) return;
  // The largest count; where there are several, the first in the alphabet: which of two is wrong nobody
  // knows.
  const auto most = std::max_element(counts.begin(), counts.end(),
                                     [](const auto& a, const auto& b) { return a.second < b.second; });
  for (NodeReport& node : report->nodes) {
    const RankRecord* rank = LookedAt(record, node);
    const std::string value = rank == nullptr ? "" : alike.of(*rank);
    if (value.empty() || value == most->first) continue;
    node.findings.push_back({.level = alike.level,
                             .check = alike.check,
                             .found = fmt::format("{} here, {} on {} other node{}", value, most->first,
                                                  most->second, most->second == 1 ? "" : "s"),
                             .cause = alike.cause,
                             .cure = alike.cure});
  }
}

void CheckReaders(const ExamRecord& record, ExamReport* report) {
  std::vector<std::pair<double, NodeReport*>> rates;
  for (NodeReport& node : report->nodes) {
    for (const int r : node.ranks) {
      const auto& files = record.ranks[static_cast<size_t>(r)].checkpoint;
      if (files.has_value() && files->seconds() > 0 && files->hung().empty()) {
        rates.emplace_back(static_cast<double>(files->bytes_read()) / files->seconds(), &node);
      }
    }
  }
  if (rates.size() < 3) return;
  std::sort(rates.begin(), rates.end());
  const double median = rates[rates.size() / 2].first;
  for (const auto& [rate, node] : rates) {
    if (rate >= kSlowReader * median) continue;
    node->findings.push_back(
        {.level = Level::kWarn,
         .check = "read rate",
         .found = fmt::format("{:.0f} MB/s, the median node reads {:.0f} MB/s", rate / 1e6, median / 1e6),
         .cause = "all wait until the slowest node has loaded: its mount, its way to the file servers, or "
                  "its disk",
         .cure = "compare mount options and the network of that node with another's; or leave it out"});
  }
}

void CheckStart(const ExamRecord& record, std::vector<Finding>* findings) {
  std::string missing;
  size_t joined = 0;
  for (size_t r = 0; r < record.ranks.size(); ++r) {
    if (record.ranks[r].joined) {
      ++joined;
    } else {
      missing += fmt::format("{}{}", missing.empty() ? "" : ", ", r);
    }
  }
  for (const std::string& refused : record.refused) {
    findings->push_back(
        {.level = Level::kFail,
         .check = "launch",
         .found = "refused: " + refused,
         .cause = "this worker cannot be part of the deployment",
         .cure = "start as many ranks as the layout has, from one build, by one mpirun or srun --mpi=pmix"});
  }
  if (!record.ended.empty()) {
    const size_t likely = record.ended.find(". Likely: ");
    findings->push_back(
        {.level = Level::kFail,
         .check = "launch",
         .found = record.ended.substr(0, likely),
         .cause = likely == std::string::npos ? "see the other findings" : record.ended.substr(likely + 10),
         .cure = "mend that, then run fulger doctor again"});
  }
  if (joined == record.ranks.size() && joined > 0) {
    findings->push_back({.level = Level::kOk,
                         .check = "launch",
                         .found = fmt::format("all {} rank{} joined", joined, joined == 1 ? "" : "s")});
  } else if (record.ended.empty()) {
    findings->push_back(
        {.level = Level::kFail,
         .check = "launch",
         .found = fmt::format("{} of {} ranks joined; missing: {}", joined, record.ranks.size(), missing),
         .cause = "the launcher did not start them, or they do not reach the coordinator",
         .cure = "look at the launcher's output; open the control port between the hosts"});
  }
}

}  // namespace

std::vector<NodeReport> NodesOf(const ExamRecord& record) {
  std::vector<NodeReport> nodes;
  std::map<std::string, size_t> index;
  for (size_t rank = 0; rank < record.ranks.size(); ++rank) {
    if (!record.ranks[rank].joined) continue;
    const std::string& host = record.ranks[rank].hello.host();
    const auto [node, fresh] = index.emplace(host, nodes.size());
    if (fresh) nodes.push_back({.name = host, .ranks = {}, .findings = {}});
    nodes[node->second].ranks.push_back(static_cast<int>(rank));
  }
  return nodes;
}

std::string_view Name(Level level) {
  switch (level) {
    case Level::kOk:
      return "OK";
    case Level::kWarn:
      return "WARN";
    case Level::kFail:
      return "FAIL";
  }
  return "?";
}

Level NodeReport::level() const { return Worst(findings); }

Level ExamReport::level() const {
  Level worst = Worst(general);
  for (const NodeReport& node : nodes) worst = std::max(worst, node.level());
  return worst;
}

void CompareNodes(const ExamRecord& record, ExamReport* report) {
  CheckAlike(
      record,
      {.check = "mpi",
       .of = [](const RankRecord& rank) { return rank.facts->mpi_version(); },
       .cause = "two MPI versions: ranks that do not speak the same protocol hang or end in MPI_Init",
       .cure = "one MPI module on all nodes; look at LD_LIBRARY_PATH and at the file beside the version"},
      report);
  CheckAlike(record,
             {.check = "processor",
              .of = [](const RankRecord& rank) { return rank.facts->arithmetic(); },
              .cause = "results would differ in their last bits, and ranks of a stage could route a token to "
                       "different experts: "
                       "the server refuses such a mixture",
              .cure = "nodes of one kind, or --kernels portable for all workers"},
             report);
  CheckAlike(
      record,
      {.check = "network",
       .of =
           [](const RankRecord& rank) {
             return rank.node->network().mtu() > 0 && rank.hello.transport() != "single"
                        ? fmt::format("MTU {}", rank.node->network().mtu())
                        : std::string();
           },
       .cause =
           "small messages pass and large ones hang, where a switch drops what the other end calls too long",
       .cure = "ip link set INTERFACE mtu N: the same on all nodes"},
      report);
  CheckAlike(record,
             {.check = "checkpoint",
              .of =
                  [](const RankRecord& rank) {
                    return rank.checkpoint.has_value() && !rank.checkpoint->fingerprint().empty()
                               ? "fingerprint " + rank.checkpoint->fingerprint().substr(0, 12)
                               : std::string();
                  },
              .cause = "the nodes see different files under the same path",
              .cure = "copy the checkpoint again, or use one on a file system that all nodes share"},
             report);
  CheckReaders(record, report);
}

ExamReport Judge(const ExamRecord& record, const Needs& needs, std::vector<Finding> coordinator) {
  ExamReport report;
  report.transport = record.transport;
  report.expected_ranks = record.ranks.size();
  report.rounds = record.rounds;
  report.rounds_done = record.rounds_done;
  report.one_pair_at_a_time = record.one_pair_at_a_time;
  report.seconds = record.seconds;
  report.general = std::move(coordinator);
  CheckStart(record, &report.general);
  report.nodes = NodesOf(record);
  for (NodeReport& node : report.nodes) node.findings = CheckNode(record, needs, node);
  report.between = MakeWays(record, report.nodes, /*between=*/true);
  report.within = MakeWays(record, report.nodes, /*between=*/false);
  CompareNodes(record, &report);
  CheckWays(record, &report);
  return report;
}

}  // namespace fulger
