// What a record means: per node, and of the ways between them. Pure functions of the record and of what the
// deployment needs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/doctor/exam_record.h"

namespace fulger {

enum class Level : uint8_t { kOk, kWarn, kFail };
std::string_view Name(Level level);  // "OK", "WARN", "FAIL"

struct Finding {
  Level level = Level::kOk;
  std::string check;    // "memory"
  std::string found;    // the fact, with what was expected
  std::string cause{};  // what it comes from or leads to; empty when OK
  std::string cure{};   // empty when OK
};

// What the deployment needs, where a layout is known.
struct Needs {
  std::map<int, int64_t> memory;   // bytes, by rank
  std::map<int, int64_t> weights;  // of those: read from the checkpoint
  std::string fingerprint;         // of the checkpoint as the coordinator sees it; empty: not known
};

struct NodeReport {
  std::string name;
  std::vector<int> ranks;
  std::vector<Finding> findings;
  Level level() const;
};

// Of ranks or nodes among each other.
struct Ways {
  struct Way {
    size_t from = 0, to = 0;  // indices of `ends`
    double latency = 0, bytes_per_second = 0;
    bool outlier = false;  // below half of the reference
    bool late = false;     // far above the median latency
  };
  std::vector<std::string> ends;
  std::vector<Way> ways;  // both directions of every pair that was measured
  double median_latency = 0, median_rate = 0;
  // What a sound way is expected to reach: the median; of three ends, where one that is bad spoils most of
  // the ways, the median of their best ways. 0: one pair or none, nothing to compare with.
  double reference = 0;

  const Way* Find(size_t from, size_t to) const;
};

struct ExamReport {
  std::string version;
  std::string transport;
  size_t expected_ranks = 0;
  std::vector<Finding> general;   // of the coordinator, the launch, and the ways as a whole
  std::vector<NodeReport> nodes;  // in the order of their first ranks
  Ways between;                   // nodes
  Ways within;                    // ranks of one node
  size_t rounds = 0, rounds_done = 0;
  bool one_pair_at_a_time = true;
  double seconds = 0;

  Level level() const;
};

// `coordinator`: findings of the coordinator's own host (ports, checkpoint), made by the caller.
ExamReport Judge(const ExamRecord& record, const Needs& needs, std::vector<Finding> coordinator);

// Parts of it.
std::vector<NodeReport> NodesOf(const ExamRecord& record);  // without findings
Ways MakeWays(const ExamRecord& record, const std::vector<NodeReport>& nodes, bool between);
std::vector<Finding> CheckNode(const ExamRecord& record, const Needs& needs, const NodeReport& node);
// What differs between nodes that must be alike, and findings of slow ways, put where they belong.
void CompareNodes(const ExamRecord& record, ExamReport* report);
void CheckWays(const ExamRecord& record, ExamReport* report);

}  // namespace fulger
