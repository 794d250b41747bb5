// Which ranks exchange with which, and when, so that pairs do not disturb each other and hundreds of nodes
// take no longer than a few.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fulger {

using RankPair = std::pair<int, int>;  // the smaller first

struct Rounds {
  // The pairs of a round run at the same time; no rank is in two of them.
  std::vector<std::vector<RankPair>> rounds;
  double seconds = 0;              // of one round
  bool one_pair_at_a_time = true;  // between nodes
};

// `nodes`: the ranks of each. Between nodes their first ranks exchange: each pair of nodes alone where they
// are few, else as in a tournament, every node with another one at any time, and where even that takes longer
// than `seconds`, a part of it. Within a node its first rank exchanges with some others; all pairs if there
// is one node with few ranks.
Rounds PlanRounds(const std::vector<std::vector<int>>& nodes, double seconds);

}  // namespace fulger
