// The ways between ranks: which are slow, and whose fault that is.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>

#include "coordinator/doctor/report.h"
#include "coordinator/doctor/verdict.h"

namespace fulger {
namespace {

constexpr size_t kSpoilt = 3;            // ends: one that is bad spoils most of the ways
constexpr double kSlow = 0.5;            // of the reference
constexpr double kLateFactor = 5;        // of the median latency, and
constexpr double kLateSeconds = 100e-6;  // by so much at least: less is a scheduler's doing
constexpr double kOfNominal = 0.1;       // of what the interface's driver says
constexpr double kSlowForInfiniband = 1.5e9;
constexpr double kMegabit = 1e6 / 8;

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The best rate of each end, as a sender or as a receiver.
std::vector<double> Best(const Ways& ways, size_t Ways::Way::*end) {
  std::vector<double> best(ways.ends.size());
  for (const Ways::Way& way : ways.ways) best[way.*end] = std::max(best[way.*end], way.bytes_per_second);
  return best;
}

size_t Count(const Ways& ways, size_t Ways::Way::*end, size_t of) {
  return static_cast<size_t>(
      std::count_if(ways.ways.begin(), ways.ways.end(), [&](const auto& way) { return way.*end == of; }));
}

// Ends all of whose ways in one direction are slow, where there are several.
std::vector<bool> SlowEnds(const Ways& ways, size_t Ways::Way::*end) {
  const std::vector<double> best = Best(ways, end);
  std::vector<bool> slow(ways.ends.size());
  for (size_t i = 0; i < slow.size(); ++i) {
    slow[i] = Count(ways, end, i) >= 2 && best[i] < kSlow * ways.reference;
  }
  return slow;
}

Finding SlowEnd(const Ways& ways, size_t i, bool sends, double best) {
  return {.level = Level::kWarn,
          .check = "bandwidth",
          .found = fmt::format("{} {} {} at best, whichever the other node; others reach {}", ways.ends[i],
                               sends ? "sends" : "receives", RateText(best), RateText(ways.reference)),
          .cause =
              "every step waits for the slowest node: its cable, its switch port, its interface's speed, or "
              "a process "
              "that takes its cores or its network",
          .cure = fmt::format(
              "on {}: ethtool and ip -s link of the interface (errors, speed), ibstat, top; or leave it out",
              ways.ends[i])};
}

}  // namespace

const Ways::Way* Ways::Find(size_t from, size_t to) const {
  const auto found = std::find_if(ways.begin(), ways.end(),
                                  [&](const Way& way) { return way.from == from && way.to == to; });
  return found == ways.end() ? nullptr : &*found;
}

Ways MakeWays(const ExamRecord& record, const std::vector<NodeReport>& nodes, bool between) {
  Ways ways;
  std::map<int, size_t> node_of;
  for (size_t i = 0; i < nodes.size(); ++i) {
    for (const int rank : nodes[i].ranks) node_of[rank] = i;
  }
  std::map<int, size_t> end_of;
  if (between) {
    for (const NodeReport& node : nodes) ways.ends.push_back(node.name);
  } else {
    for (const WayRecord& way : record.ways) {
      if (node_of.at(way.from) == node_of.at(way.to)) end_of[way.from] = end_of[way.to] = 0;
    }
    for (auto& [rank, end] : end_of) {
      end = ways.ends.size();
      ways.ends.push_back(nodes.size() == 1 ? fmt::format("rank {}", rank)
                                            : fmt::format("{} rank {}", nodes[node_of[rank]].name, rank));
    }
  }
  for (const WayRecord& way : record.ways) {
    const size_t from = node_of.at(way.from), to = node_of.at(way.to);
    if (between == (from == to)) continue;
    ways.ways.push_back({.from = between ? from : end_of.at(way.from),
                         .to = between ? to : end_of.at(way.to),
                         .latency = way.latency,
                         .bytes_per_second = way.bytes_per_second});
  }
  // One rank of a pair timed the round trip for both.
  std::map<std::pair<size_t, size_t>, double> timed;
  for (const Ways::Way& way : ways.ways) {
    double& latency = timed[std::minmax(way.from, way.to)];
    latency = std::max(latency, way.latency);
  }
  for (Ways::Way& way : ways.ways) way.latency = timed[std::minmax(way.from, way.to)];
  std::vector<double> rates, latencies;
  for (const Ways::Way& way : ways.ways) {
    rates.push_back(way.bytes_per_second);
    latencies.push_back(way.latency);
  }
  ways.median_rate = Median(rates);
  ways.median_latency = Median(latencies);
  if (ways.ways.size() > 2) {
    for (Ways::Way& way : ways.ways) {
      way.late = way.latency >= kLateFactor * ways.median_latency &&
                 way.latency >= ways.median_latency + kLateSeconds;
    }
    ways.reference = ways.ends.size() == kSpoilt ? Median(Best(ways, &Ways::Way::from)) : ways.median_rate;
    for (Ways::Way& way : ways.ways) way.outlier = way.bytes_per_second < kSlow * ways.reference;
  }
  return ways;
}

void CheckWays(const ExamRecord& record, ExamReport* report) {
  const Ways& ways = report->between;
  for (const WayFailure& failure : record.broken) {
    for (NodeReport& node : report->nodes) {
      const auto has = [&](int rank) {
        return std::find(node.ranks.begin(), node.ranks.end(), rank) != node.ranks.end();
      };
      if (!has(failure.one) && !has(failure.other)) continue;
      node.findings.push_back(
          {.level = Level::kFail,
           .check = "exchange",
           .found = fmt::format("rank {} and rank {}: {}", failure.one, failure.other, failure.why),
           .cause = "they reach each other by TCP but not by the way that the transport takes",
           .cure =
               "OMPI_MCA_btl_tcp_if_include (mpi) or NCCL_SOCKET_IFNAME (nccl) chooses the interface; the "
               "same MTU on all of them"});
    }
  }
  if (ways.reference > 0) {
    const std::vector<bool> sends = SlowEnds(ways, &Ways::Way::from),
                            receives = SlowEnds(ways, &Ways::Way::to);
    const std::vector<double> out = Best(ways, &Ways::Way::from), in = Best(ways, &Ways::Way::to);
    for (size_t i = 0; i < ways.ends.size(); ++i) {
      if (sends[i]) report->nodes[i].findings.push_back(SlowEnd(ways, i, true, out[i]));
      if (receives[i] && !sends[i]) report->nodes[i].findings.push_back(SlowEnd(ways, i, false, in[i]));
    }
    for (const Ways::Way& way : ways.ways) {
      if (!way.outlier || sends[way.from] || receives[way.to]) continue;
      report->nodes[way.from].findings.push_back(
          {.level = Level::kWarn,
           .check = "bandwidth",
           .found = fmt::format("{} -> {}: {}, others reach {}", ways.ends[way.from], ways.ends[way.to],
                                RateText(way.bytes_per_second), RateText(ways.reference)),
           .cause = "both nodes are fast with others: the way between them, a switch or a trunk, or somebody "
                    "else's traffic",
           .cure = "run fulger doctor again; if it stays, tell the administrators this pair, or leave one of "
                   "them out"});
    }
  }
  for (const Ways::Way& way : ways.ways) {
    if (!way.late || way.from > way.to) continue;
    report->nodes[way.from].findings.push_back(
        {.level = Level::kWarn,
         .check = "latency",
         .found = fmt::format("{} <-> {}: {:.0f} us, the median is {:.0f} us", ways.ends[way.from],
                              ways.ends[way.to], 1e6 * way.latency, 1e6 * ways.median_latency),
         .cause = "a decode step crosses the network a hundred times and more: the way between them, or a "
                  "busy core",
         .cure = "run fulger doctor again; if it stays, top on both nodes, and traceroute between them"});
  }
  const auto fastest = std::max_element(ways.ways.begin(), ways.ways.end(), [](const auto& a, const auto& b) {
    return a.bytes_per_second < b.bytes_per_second;
  });
  if (fastest == ways.ways.end()) return;
  bool infiniband = true;
  int64_t megabits = INT64_MAX;
  for (const RankRecord& rank : record.ranks) {
    if (!rank.node.has_value()) continue;
    infiniband = infiniband && rank.node->infiniband_size() > 0;
    megabits = std::min(megabits, rank.node->network().megabits());
  }
  const double nominal = static_cast<double>(megabits) * kMegabit;
  if (infiniband && ways.median_rate < kSlowForInfiniband) {
    report->general.push_back(
        {.level = Level::kWarn,
         .check = "fabric",
         .found =
             fmt::format("all nodes have InfiniBand, and the median way has {}", RateText(ways.median_rate)),
         .cause = "MPI exchanges over TCP",
         .cure =
             "an MPI library built with UCX (ompi_info | grep ucx), OMPI_MCA_pml=ucx, ulimit -l unlimited"});
  } else if (megabits > 0 && megabits < INT64_MAX && fastest->bytes_per_second < kOfNominal * nominal) {
    report->general.push_back({.level = Level::kWarn,
                               .check = "fabric",
                               .found = fmt::format("the fastest way has {}, the interfaces say {}",
                                                    RateText(fastest->bytes_per_second), RateText(nominal)),
                               .cause = "less than a tenth: another interface is used, or the cores are busy",
                               .cure = "OMPI_MCA_btl_tcp_if_include=INTERFACE; top on the nodes"});
  }
}

}  // namespace fulger
