#include "coordinator/grammar/dfa.h"

#include <algorithm>
#include <map>
#include <utility>

namespace fulger {

bool Dfa::Accepts(std::u32string_view text) const {
  if (states.empty()) return false;
  size_t at = 0;
  for (const char32_t c : text) {
    const auto& edges = states[at].edges;
    const auto edge =
        std::ranges::find_if(edges, [c](const Edge& e) { return e.range.first <= c && c <= e.range.second; });
    if (edge == edges.end()) return false;
    at = static_cast<size_t>(edge->to);
  }
  return states[at].accepts;
}

Dfa Trimmed(Dfa dfa) {
  const size_t n = dfa.states.size();
  std::vector<std::vector<int32_t>> sources(n);
  for (size_t i = 0; i < n; ++i) {
    for (const Dfa::Edge& edge : dfa.states[i].edges) {
      sources[static_cast<size_t>(edge.to)].push_back(static_cast<int32_t>(i));
    }
  }
  std::vector<bool> live(n, false);
  std::vector<size_t> todo;
  for (size_t i = 0; i < n; ++i) {
    if (dfa.states[i].accepts) todo.push_back(i);
  }
  while (!todo.empty()) {
    const size_t at = todo.back();
    todo.pop_back();
    if (live[at]) continue;
    live[at] = true;
    for (const int32_t source : sources[at]) todo.push_back(static_cast<size_t>(source));
  }
  if (n == 0 || !live[0]) return {};
  std::vector<int32_t> names(n, -1);
  Dfa trimmed;
  for (size_t i = 0; i < n; ++i) {
    if (!live[i]) continue;
    names[i] = static_cast<int32_t>(trimmed.states.size());
    trimmed.states.push_back(std::move(dfa.states[i]));
  }
  for (Dfa::State& state : trimmed.states) {
    std::erase_if(state.edges, [&](const Dfa::Edge& e) { return names[static_cast<size_t>(e.to)] < 0; });
    for (Dfa::Edge& edge : state.edges) edge.to = names[static_cast<size_t>(edge.to)];
  }
  return trimmed;
}

absl::Status AutomatonTooLarge() {
  return InvalidArgument("too large: its automaton would have more than {} states, or take too long to make",
                         Dfa::kMaxStates);
}

absl::StatusOr<Dfa> Intersection(const Dfa& a, const Dfa& b, WorkBudget* budget) {
  if (a.states.empty() || b.states.empty()) return Dfa{};
  using Pair = std::pair<int32_t, int32_t>;
  std::map<Pair, int32_t> names{{{0, 0}, 0}};
  std::vector<Pair> pairs{{0, 0}};
  Dfa both;
  for (size_t i = 0; i < pairs.size(); ++i) {
    const Dfa::State& x = a.states[static_cast<size_t>(pairs[i].first)];
    const Dfa::State& y = b.states[static_cast<size_t>(pairs[i].second)];
    Dfa::State state{.edges = {}, .accepts = x.accepts && y.accepts};
    for (size_t j = 0, k = 0; j < x.edges.size() && k < y.edges.size();) {
      const CharSet::Range &r = x.edges[j].range, &s = y.edges[k].range;
      const CharSet::Range common{std::max(r.first, s.first), std::min(r.second, s.second)};
      if (common.first <= common.second) {
        const Pair to{x.edges[j].to, y.edges[k].to};
        const auto [known, fresh] = names.try_emplace(to, static_cast<int32_t>(pairs.size()));
        if (fresh) pairs.push_back(to);
        state.edges.push_back({.range = common, .to = known->second});
      }
      r.second < s.second ? ++j : ++k;
    }
    both.states.push_back(std::move(state));
    if (pairs.size() > Dfa::kMaxStates || !budget->Use(std::ssize(x.edges) + std::ssize(y.edges) + 1)) {
      return AutomatonTooLarge();
    }
  }
  return Trimmed(std::move(both));
}

Dfa Complement(const Dfa& dfa) {
  Dfa other = dfa;
  if (other.states.empty()) other.states.emplace_back();
  const auto rest = static_cast<int32_t>(other.states.size());  // what has left `dfa`
  other.states.emplace_back();
  for (Dfa::State& state : other.states) {
    state.accepts = !state.accepts;
    std::vector<CharSet::Range> known;
    for (const Dfa::Edge& edge : state.edges) known.push_back(edge.range);
    const CharSet others = CharSet::All().Without(CharSet(std::move(known)));
    for (const CharSet::Range& range : others.ranges()) state.edges.push_back({.range = range, .to = rest});
    std::ranges::sort(state.edges, {}, &Dfa::Edge::range);
  }
  return Trimmed(std::move(other));
}

Dfa StringsOfLength(int64_t least, int64_t most) {
  Dfa dfa;
  const int64_t last = most < 0 ? least : most;
  for (int64_t length = 0; length <= last; ++length) {
    Dfa::State& state = dfa.states.emplace_back();
    state.accepts = length >= least;
    const int64_t to = length < last ? length + 1 : length;
    if (length == last && most >= 0) continue;
    for (const CharSet::Range& range : CharSet::All().ranges()) {
      state.edges.push_back({.range = range, .to = static_cast<int32_t>(to)});
    }
  }
  return dfa;
}

}  // namespace fulger
