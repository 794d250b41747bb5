#include "coordinator/doctor/rounds.h"

#include <algorithm>
#include <cstddef>

namespace fulger {
namespace {

constexpr size_t kAlone = 9;                        // nodes: 36 pairs
constexpr size_t kAllRanks = 6;                     // of one node: 15 pairs
constexpr size_t kSampledRanks = 3;                 // of a node among others, besides its first
constexpr double kShortest = 0.04, kLongest = 0.3;  // seconds of a round

std::vector<RankPair> AllPairs(const std::vector<int>& ranks) {
  std::vector<RankPair> pairs;
  for (size_t i = 0; i < ranks.size(); ++i) {
    for (size_t j = i + 1; j < ranks.size(); ++j) pairs.emplace_back(std::minmax(ranks[i], ranks[j]));
  }
  return pairs;
}

// The circle method: one stands, the others go round. An odd one out rests.
std::vector<std::vector<RankPair>> Tournament(std::vector<int> players) {
  constexpr int kNobody = -1;
  if (players.size() % 2 == 1) players.push_back(kNobody);
  std::vector<std::vector<RankPair>> rounds;
  for (size_t turn = 0; turn + 1 < players.size(); ++turn) {
    std::vector<RankPair> round;
    for (size_t i = 0; i < players.size() / 2; ++i) {
      const int one = players[i], other = players[players.size() - 1 - i];
      if (one != kNobody && other != kNobody) round.emplace_back(std::minmax(one, other));
    }
    rounds.push_back(std::move(round));
    std::rotate(players.begin() + 1, players.end() - 1, players.end());
  }
  return rounds;
}

// The farthest, the one in the middle, the nearest: sockets and NUMA nodes lie in this order.
std::vector<int> Sampled(const std::vector<int>& ranks) {
  std::vector<int> chosen;
  for (const size_t i : {ranks.size() - 1, ranks.size() / 2, size_t{1}}) {
    if (i > 0 && i < ranks.size() && std::find(chosen.begin(), chosen.end(), ranks[i]) == chosen.end()) {
      chosen.push_back(ranks[i]);
    }
  }
  return chosen;
}

}  // namespace

Rounds PlanRounds(const std::vector<std::vector<int>>& nodes, double seconds) {
  Rounds plan;
  std::vector<int> first;
  for (const std::vector<int>& ranks : nodes) first.push_back(ranks.front());
  if (nodes.size() <= kAlone) {
    for (const RankPair& pair : AllPairs(first)) plan.rounds.push_back({pair});
  } else {
    plan.one_pair_at_a_time = false;
    plan.rounds = Tournament(first);
  }
  if (nodes.size() == 1 && nodes[0].size() <= kAllRanks) {
    for (const RankPair& pair : AllPairs(nodes[0])) plan.rounds.push_back({pair});
  } else {
    for (size_t turn = 0; turn < kSampledRanks; ++turn) {
      std::vector<RankPair> round;
      for (const std::vector<int>& ranks : nodes) {
        const std::vector<int> others = Sampled(ranks);
        if (turn < others.size()) round.emplace_back(std::minmax(ranks.front(), others[turn]));
      }
      if (!round.empty()) plan.rounds.push_back(std::move(round));
    }
  }
  const auto most = static_cast<size_t>(std::max(1.0, seconds / kShortest));
  if (plan.rounds.size() > most) {
    std::vector<std::vector<RankPair>> some;
    for (size_t i = 0; i < most; ++i) some.push_back(std::move(plan.rounds[i * plan.rounds.size() / most]));
    plan.rounds = std::move(some);
  }
  if (!plan.rounds.empty()) {
    plan.seconds = std::clamp(seconds / static_cast<double>(plan.rounds.size()), kShortest, kLongest);
  }
  return plan;
}

}  // namespace fulger
