// What an examination found, as plain values: what the ranks said, and where it went wrong. No judgement.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "coordinator/cluster/clock_skew.h"
#include "fulger/v1/control.pb.h"

namespace fulger {

struct RankRecord {
  bool joined = false;
  v1::Hello hello;
  ClockSkew skew;
  std::optional<v1::RankFacts> facts;
  std::optional<v1::NodeFacts> node;              // of the first rank of each node
  std::optional<v1::CheckpointFiles> checkpoint;  // likewise, if there is one
  std::vector<std::string> unreachable;
  std::string failure;  // it failed, hung or went away: a message that names it
};

// From one rank to another, of whichever of the two directions it is.
struct WayRecord {
  int from = 0, to = 0;
  double latency = 0;  // seconds; the same both ways
  double bytes_per_second = 0;
};

struct WayFailure {
  int one = 0, other = 0;
  std::string why;
};

struct ExamRecord {
  std::vector<RankRecord> ranks;     // by rank, those that never joined too
  std::vector<std::string> refused;  // workers that were not let in, and why
  std::string transport;
  std::vector<WayRecord> ways;
  std::vector<WayFailure> broken;
  size_t rounds = 0, rounds_done = 0;
  bool one_pair_at_a_time = true;
  std::string ended;  // why it ended before its end; empty: it did not
  double seconds = 0;
};

}  // namespace fulger
