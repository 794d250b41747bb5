#include "coordinator/grammar/regex.h"

#include <algorithm>
#include <map>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "base/check.h"
#include "coordinator/grammar/regex_parser.h"

namespace fulger {
namespace {

constexpr size_t kMaxNodes = 50'000;
// Built from its end: every function takes the node that follows, and returns the one to enter.
struct Nfa {
  enum class Kind : uint8_t { kChars, kSplit, kBegin, kEnd, kFinal };
  struct Node {
    Kind kind = Kind::kFinal;
    int32_t next = -1;
    CharSet chars{};
    std::vector<int32_t> targets{};
  };
  std::vector<Node> nodes;
  int32_t start = 0;

  bool full() const { return nodes.size() > kMaxNodes; }
  int32_t Add(Node node) {
    if (full()) return 0;
    nodes.push_back(std::move(node));
    return static_cast<int32_t>(nodes.size()) - 1;
  }
  int32_t Build(const RegexNode& tree, int32_t next);
  int32_t Repeat(const RegexNode& tree, int32_t next);
};

int32_t Nfa::Build(const RegexNode& tree, int32_t next) {
  if (full()) return 0;
  switch (tree.kind) {
    case RegexNode::Kind::kChars:
      return Add({.kind = Kind::kChars, .next = next, .chars = tree.chars});
    case RegexNode::Kind::kBegin:
      return Add({.kind = Kind::kBegin, .next = next});
    case RegexNode::Kind::kEnd:
      return Add({.kind = Kind::kEnd, .next = next});
    case RegexNode::Kind::kSequence:
      for (size_t i = tree.children.size(); i-- > 0;) next = Build(tree.children[i], next);
      return next;
    case RegexNode::Kind::kChoice: {
      Node split{.kind = Kind::kSplit};
      for (const RegexNode& child : tree.children) split.targets.push_back(Build(child, next));
      return Add(std::move(split));
    }
    case RegexNode::Kind::kRepeat:
      return Repeat(tree, next);
  }
  return next;
}

int32_t Nfa::Repeat(const RegexNode& tree, int32_t next) {
  const RegexNode& child = tree.children.front();
  int32_t at = next;
  if (tree.most < 0) {
    at = Add({.kind = Kind::kSplit, .targets = {next}});
    const int32_t again = Build(child, at);
    if (!full()) nodes[static_cast<size_t>(at)].targets.push_back(again);
  }
  for (int64_t i = tree.least; i < tree.most && !full(); ++i) {
    const int32_t more = Build(child, at);
    at = Add({.kind = Kind::kSplit, .targets = {next, more}});
  }
  for (int64_t i = 0; i < tree.least && !full(); ++i) at = Build(child, at);
  return at;
}

// Where the string may stand: nodes that read a character, and whether it may end there. `done`: the
// expression was found, and anything may follow.
struct Place {
  std::vector<int32_t> nodes{};
  bool accepts = false, done = false;
  bool operator<(const Place& other) const {
    return std::tie(nodes, accepts, done) < std::tie(other.nodes, other.accepts, other.done);
  }
};

class Determiniser {
 public:
  Determiniser(const Nfa& nfa, WorkBudget* budget) : nfa_(nfa), budget_(*budget) {
    std::set<char32_t> borders;  // no set of characters begins or ends between two of them
    for (const Nfa::Node& node : nfa.nodes) {
      for (const auto& [first, last] : node.chars.ranges()) {
        borders.insert(first);
        borders.insert(last + 1);
      }
    }
    borders_.assign(borders.begin(), borders.end());
  }

  absl::StatusOr<Dfa> Run() {
    Name(Closure({nfa_.start}, /*at_start=*/true));
    for (size_t i = 0; i < places_.size(); ++i) {
      const Place place = *places_[i];  // moves
      Dfa::State state{.edges = {}, .accepts = place.accepts};
      if (place.done) {
        for (const CharSet::Range& range : CharSet::All().ranges())
          state.edges.push_back({.range = range, .to = static_cast<int32_t>(i)});
      } else {
        AddEdges(place, &state);
      }
      dfa_.states.push_back(std::move(state));
      if (places_.size() > Dfa::kMaxStates || budget_.steps < 0) return AutomatonTooLarge();
    }
    return Trimmed(std::move(dfa_));
  }

 private:
  Place Closure(std::vector<int32_t> todo, bool at_start) {
    Place place;
    std::vector<int32_t> ends;
    Follow(std::move(todo), at_start, &place, &ends);
    if (place.done) return {.accepts = true, .done = true};
    // What lies behind a $ counts only where the string ends.
    Place at_end;
    std::set<int32_t> seen(ends.begin(), ends.end());
    while (!ends.empty() && !at_end.done) {
      std::vector<int32_t> more;
      Follow(std::move(ends), at_start, &at_end, &more);
      std::erase_if(more, [&](int32_t node) { return !seen.insert(node).second; });
      ends = std::move(more);
    }
    place.accepts = at_end.done;
    std::ranges::sort(place.nodes);
    return place;
  }

  // Everything reached without a character; `ends`: behind a $.
  void Follow(std::vector<int32_t> todo, bool at_start, Place* place, std::vector<int32_t>* ends) {
    std::set<int32_t> seen(todo.begin(), todo.end());
    const auto go = [&](int32_t to) {
      if (seen.insert(to).second) todo.push_back(to);
    };
    while (!todo.empty()) {
      const int32_t at = todo.back();
      todo.pop_back();
      budget_.Use(1);
      const Nfa::Node& node = nfa_.nodes[static_cast<size_t>(at)];
      switch (node.kind) {
        case Nfa::Kind::kChars:
          if (!node.chars.empty()) place->nodes.push_back(at);
          break;
        case Nfa::Kind::kSplit:
          for (const int32_t target : node.targets) go(target);
          break;
        case Nfa::Kind::kBegin:
          if (at_start) go(node.next);
          break;
        case Nfa::Kind::kEnd:
          ends->push_back(node.next);
          break;
        case Nfa::Kind::kFinal:
          place->done = true;
          break;
      }
    }
  }

  void AddEdges(const Place& place, Dfa::State* state) {
    std::map<size_t, std::vector<int32_t>> reached;  // by the border at which the range begins
    for (const int32_t at : place.nodes) {
      const Nfa::Node& node = nfa_.nodes[static_cast<size_t>(at)];
      for (const auto& [first, last] : node.chars.ranges()) {
        const auto begin = std::ranges::lower_bound(borders_, first) - borders_.begin();
        for (auto i = static_cast<size_t>(begin); borders_[i] <= last; ++i) {
          reached[i].push_back(node.next);
          budget_.Use(1);
        }
      }
    }
    std::map<std::vector<int32_t>, int32_t> known;  // many ranges lead to the same
    for (auto& [border, nodes] : reached) {
      if (budget_.steps < 0) return;  // Run says so
      std::ranges::sort(nodes);
      nodes.erase(std::unique(nodes.begin(), nodes.end()), nodes.end());
      auto found = known.find(nodes);
      if (found == known.end()) found = known.emplace(nodes, Name(Closure(nodes, false))).first;
      const CharSet::Range range{borders_[border], borders_[border + 1] - 1};
      if (!state->edges.empty() && state->edges.back().to == found->second &&
          state->edges.back().range.second + 1 == range.first) {
        state->edges.back().range.second = range.second;
      } else {
        state->edges.push_back({.range = range, .to = found->second});
      }
    }
  }

  int32_t Name(Place place) {
    const auto [known, fresh] = names_.try_emplace(std::move(place), static_cast<int32_t>(places_.size()));
    if (fresh) places_.push_back(&known->first);
    return known->second;
  }

  const Nfa& nfa_;
  WorkBudget& budget_;
  std::vector<char32_t> borders_;
  std::map<Place, int32_t> names_;
  std::vector<const Place*> places_;  // by name
  Dfa dfa_;
};

}  // namespace

absl::StatusOr<Dfa> CompileSearch(std::string_view expression, WorkBudget* budget) {
  ASSIGN_OR_RETURN(const RegexNode tree, ParseRegex(expression));
  Nfa nfa;
  const int32_t final = nfa.Add({.kind = Nfa::Kind::kFinal});
  nfa.start = nfa.Build(tree, final);
  const int32_t before = nfa.Add({.kind = Nfa::Kind::kSplit, .targets = {nfa.start}});
  const int32_t any = nfa.Add({.kind = Nfa::Kind::kChars, .next = before, .chars = CharSet::All()});
  if (nfa.full() || !budget->Use(std::ssize(nfa.nodes))) return AutomatonTooLarge();
  nfa.nodes[static_cast<size_t>(before)].targets.push_back(any);
  nfa.start = before;
  return Determiniser(nfa, budget).Run();
}

Dfa CompileWhole(std::string_view expression) {
  WorkBudget budget{.steps = INT64_MAX};
  absl::StatusOr<Dfa> dfa = CompileSearch(fmt::format("^(?:{})$", expression), &budget);
  FULGER_CHECK(dfa.ok(), "expression {}: {}", expression, Message(dfa.status()));
  return *std::move(dfa);
}

}  // namespace fulger
