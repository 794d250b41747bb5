#include "coordinator/planner/search.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "coordinator/planner/layer_weights.h"
#include "coordinator/planner/stage_cuts.h"

namespace fulger {
namespace {

constexpr int64_t kMostSequences = 65536;
constexpr int64_t kMostBlocks = int64_t{1} << 24;
constexpr double kGiB = 1 << 30;

struct NamedGoal {
  PlanGoal goal;
  std::string_view name;
};
constexpr NamedGoal kGoals[] = {
    {PlanGoal::kLatency, "latency"}, {PlanGoal::kThroughput, "throughput"}, {PlanGoal::kContext, "context"}};

int64_t Blocks(int64_t tokens, int64_t block_size) { return (tokens + block_size - 1) / block_size; }

CacheSizes WishedSizes(const PlanWishes& w) {
  const int64_t tokens = w.cache_tokens > 0 ? w.cache_tokens : w.max_sequences * w.context;
  return {.blocks = Blocks(tokens, w.block_size),
          .block_size = w.block_size,
          .slots = w.max_sequences + w.anchors,
          .max_step_tokens = w.max_step_tokens};
}

class Search {
 public:
  Search(const PlannedModel& model, const Cluster& cluster, const PlanWishes& wishes)
      : model_(model), cluster_(cluster), wishes_(wishes), held_(model, false), stored_(model, true) {}

  // Cuts so that the heaviest stage is lightest, counting weights, states and keys and values.
  Layout WithBalancedStages(Layout layout);

  Candidate Evaluate(const Plan& plan) {
    Candidate c;
    c.plan = plan;
    c.replicas = std::max(1, cluster_.ranks() / plan.layout.ranks());
    c.sizes = WishedSizes(wishes_);
    c.sequences = wishes_.max_sequences;
    c.anchors = wishes_.anchors;
    for (int p = 0; p < plan.layout.pp; ++p) {
      RankMemory memory{.weights = held_.Stage(plan, p)};
      Resize(c, plan.ranks[static_cast<size_t>(plan.stage_rank(p, 0))], c.sizes, memory);
      c.stages.push_back(memory);
    }
    if (plan.layout.vision > 0) {
      c.vision = RankMemory{.weights = held_.Of(plan.layout).vision};
      c.vision->arena = ArenaBytes(model_.config, plan.layout, plan.ranks.back(), c.sizes);
    }
    c.limit = Limit(c);
    c.fits = Fits(c, c.sizes, &c.refusal);
    FindCapacity(c);
    if (wishes_.goal == PlanGoal::kThroughput && c.fits) FillWithSequences(c);
    for (const RankMemory& m : c.stages) c.largest_rank = std::max(c.largest_rank, m.total());
    Time(c);
    c.load_seconds = LoadSeconds(plan);
    return c;
  }

 private:
  // What the largest rank may hold.
  int64_t Limit(const Candidate& c) const {
    if (cluster_.gpu) return cluster_.memory_bytes - cluster_.reserve_bytes;
    const int on_node = std::min(cluster_.ranks_per_node, c.layout().ranks());
    return cluster_.memory_bytes / on_node - cluster_.reserve_bytes;
  }

  // A GPU holds one rank; the memory of a CPU node is shared by its ranks.
  bool Fits(const Candidate& c, const CacheSizes& sizes, std::string* why) const {
    std::map<int, int64_t> nodes;
    for (int r = 0; r < c.layout().ranks(); ++r) {
      const RankPlan& rank = c.plan.ranks[static_cast<size_t>(r)];
      RankMemory memory = rank.vision_only ? *c.vision : c.stages[static_cast<size_t>(rank.stage)];
      Resize(c, rank, sizes, memory);
      const int64_t need = memory.total() + cluster_.reserve_bytes;
      int64_t& on_node = nodes[cluster_.node_of(r)];
      on_node += need;
      if (cluster_.gpu ? need <= cluster_.memory_bytes : on_node <= cluster_.memory_bytes) continue;
      if (why == nullptr) return false;
      const auto gib = [](int64_t bytes) { return static_cast<double>(bytes) / kGiB; };
      *why = fmt::format(
          "rank {}: weights {:.2f} + KV of {} tokens {:.2f} + states of {} sequences and anchors {:.2f} + "
          "arena "
          "{:.2f} + reserve {:.2f} = {:.2f} GiB",
          r, gib(memory.weight_total()), sizes.blocks * sizes.block_size, gib(memory.kv), sizes.slots,
          gib(memory.slots), gib(memory.arena), gib(cluster_.reserve_bytes), gib(need));
      *why += cluster_.gpu ? fmt::format(", a {} has {:.2f}", cluster_.device, gib(cluster_.memory_bytes))
                           : fmt::format(", its node's ranks so far {:.2f}, and it has {:.2f}", gib(on_node),
                                         gib(cluster_.memory_bytes));
      return false;
    }
    return true;
  }

  void Resize(const Candidate& c, const RankPlan& rank, const CacheSizes& sizes, RankMemory& memory) const {
    if (rank.vision_only) return;
    memory.kv = sizes.blocks * sizes.block_size * KvBytesPerToken(model_.config, rank, kCacheDType);
    memory.slots = sizes.slots * SlotBytes(model_.config, rank);
    memory.arena = ArenaBytes(model_.config, c.layout(), rank, sizes);
  }

  // The largest n in 0..most for which all fits.
  template <typename SizesOf>
  int64_t Largest(const Candidate& c, int64_t most, const SizesOf& sizes_of) const {
    int64_t low = 0, high = most;
    while (low < high) {
      const int64_t middle = low + (high - low + 1) / 2;
      if (Fits(c, sizes_of(middle), nullptr)) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  CacheSizes Sizes(int64_t sequences, int64_t blocks) const {
    return {.blocks = blocks,
            .block_size = wishes_.block_size,
            .slots = sequences,
            .max_step_tokens = wishes_.max_step_tokens};
  }

  void FindCapacity(Candidate& c) const {
    const int64_t each = Blocks(wishes_.context, wishes_.block_size);
    c.most_sequences = Largest(c, kMostSequences, [&](int64_t n) { return Sizes(n, n * each); });
    c.longest_context = Largest(c, kMostBlocks, [&](int64_t n) { return Sizes(1, n); }) * wishes_.block_size;
  }

  // Room for the most sequences of one step, and for nothing else.
  void FillWithSequences(Candidate& c) const {
    c.sequences = std::min(c.most_sequences, wishes_.max_step_tokens);
    c.anchors = 0;
    c.sizes = Sizes(c.sequences, c.sequences * Blocks(wishes_.context, wishes_.block_size));
    for (int p = 0; p < c.layout().pp; ++p) {
      const RankPlan& rank = c.plan.ranks[static_cast<size_t>(c.plan.stage_rank(p, 0))];
      Resize(c, rank, c.sizes, c.stages[static_cast<size_t>(p)]);
    }
  }

  StepTime Predict(const Candidate& c, const StepShape& shape, int64_t groups) const {
    return PredictStep(model_.config, c.plan, c.stages, RatesOfStages(cluster_, c.plan, groups), shape,
                       groups);
  }

  void Time(Candidate& c) const {
    const int64_t pp = c.layout().pp;
    c.alone = Predict(c, {.sequences = 1, .rows = 1, .context = wishes_.context}, 1);
    c.batch = std::clamp<int64_t>(c.most_sequences, 1, c.sequences);
    c.groups = wishes_.micro_batches ? std::min(pp, c.batch) : 1;
    const int64_t in_group = (c.batch + c.groups - 1) / c.groups;
    c.full = Predict(c, {.sequences = in_group, .rows = 1, .context = wishes_.context}, c.groups);
    c.tokens_per_second = static_cast<double>(c.batch) / c.full.between_tokens() * c.replicas;

    const int64_t rows = std::min(wishes_.prompt, wishes_.max_step_tokens);
    const int64_t chunks = Blocks(wishes_.prompt, rows);
    const StepTime chunk =
        Predict(c, {.sequences = 1, .rows = rows, .context = wishes_.prompt / 2}, std::min(pp, chunks));
    c.first_token_seconds = chunk.latency() + static_cast<double>(chunks - 1) * chunk.slowest_stage;
  }

  // Every rank of every replica reads its own part, at what the file system gives to all together.
  double LoadSeconds(const Plan& plan) {
    double bytes = 0;
    for (int p = 0; p < plan.layout.pp; ++p) {
      bytes += plan.layout.tp * static_cast<double>(Sum(stored_.Stage(plan, p)));
    }
    const int replicas = std::max(1, cluster_.ranks() / plan.layout.ranks());
    return bytes * replicas / cluster_.storage_bytes_per_second;
  }

  const PlannedModel& model_;
  const Cluster& cluster_;
  const PlanWishes& wishes_;
  LayerWeights held_, stored_;
};

Layout Search::WithBalancedStages(Layout layout) {
  if (layout.pp == 1 || !layout.stage_layers.empty()) return layout;
  const LayerWeights::Parts& parts = held_.Of(layout);
  const auto whole = MakePlan(model_.config, {.tp = layout.tp, .ep = layout.ep});
  if (!whole.ok()) return layout;
  const CacheSizes sizes = WishedSizes(wishes_);
  std::vector<int64_t> layers;
  for (size_t l = 0; l < parts.layers.size(); ++l) {
    RankPlan one = whole->ranks[0];
    one.layers = {static_cast<int64_t>(l), static_cast<int64_t>(l) + 1};
    layers.push_back(Sum(parts.layers[l]) + sizes.slots * SlotBytes(model_.config, one) +
                     sizes.blocks * sizes.block_size * KvBytesPerToken(model_.config, one, kCacheDType));
  }
  const int64_t vision = layout.vision > 0 ? 0 : Sum(parts.vision);
  layout.stage_layers = BalancedStages(layers, Sum(parts.first) + vision, Sum(parts.last), layout.pp);
  if (layout.stage_layers.empty()) return layout;  // more stages than layers: MakePlan says so
  const auto count = static_cast<int>(parts.layers.size());
  bool even = true;
  for (int p = 0; p < layout.pp; ++p) {
    even = even &&
           layout.stage_layers[static_cast<size_t>(p)] == (p + 1) * count / layout.pp - p * count / layout.pp;
  }
  if (even) layout.stage_layers.clear();
  return layout;
}

std::vector<Layout> LayoutsToTry(const PlannedModel& model, const Cluster& cluster,
                                 const PlanWishes& wishes) {
  std::vector<Layout> layouts;
  std::vector<int> visions;
  if (!model.config.vision) {
    visions = {0};
  } else if (wishes.vision >= 0) {
    visions = {wishes.vision};
  } else {
    visions = {0, 1};
  }
  for (const int vision : visions) {
    for (int ranks = 1; ranks + vision <= cluster.ranks(); ++ranks) {
      if (wishes.tp > 0 && wishes.pp > 0 && ranks != wishes.tp * wishes.pp) continue;
      for (Layout layout : PossibleLayouts(model.config, ranks)) {
        if ((wishes.tp > 0 && layout.tp != wishes.tp) || (wishes.pp > 0 && layout.pp != wishes.pp) ||
            (wishes.ep > 0 && layout.ep != wishes.ep)) {
          continue;
        }
        // A stage lies on whole nodes or inside one: otherwise every all-reduce crosses the network for
        // nothing.
        if (wishes.tp == 0 && layout.tp > cluster.ranks_per_node && layout.tp % cluster.ranks_per_node != 0) {
          continue;
        }
        if (wishes.tp == 0 && layout.tp < cluster.ranks_per_node && layout.pp > 1 && cluster.nodes > 1 &&
            cluster.ranks_per_node % layout.tp != 0) {
          continue;
        }
        layout.vision = vision;
        layout.stage_layers = wishes.stage_layers;
        for (const WeightFormat experts : wishes.experts) {
          for (const WeightFormat projections : wishes.projections) {
            layout.experts = experts;
            layout.projections = projections;
            layouts.push_back(layout);
          }
        }
      }
    }
  }
  return layouts;
}

// Smaller is better, compared in order.
std::tuple<double, double, int> Rank(PlanGoal goal, const Candidate& c) {
  const double alone = c.alone.between_tokens();
  switch (goal) {
    case PlanGoal::kLatency:
      return {alone, -c.tokens_per_second, c.layout().ranks()};
    case PlanGoal::kThroughput:
      return {-c.tokens_per_second, alone, c.layout().ranks()};
    case PlanGoal::kContext:
      return {-static_cast<double>(c.longest_context), alone, c.layout().ranks()};
  }
  return {};
}

}  // namespace

absl::StatusOr<PlanGoal> PlanGoalFromName(std::string_view name) {
  for (const NamedGoal& g : kGoals) {
    if (g.name == name) return g.goal;
  }
  return InvalidArgument("goal \"{}\": expected latency, throughput or context", name);
}

std::string_view Name(PlanGoal goal) {
  for (const NamedGoal& g : kGoals) {
    if (g.goal == goal) return g.name;
  }
  return "?";
}

absl::StatusOr<Candidates> FindLayouts(const PlannedModel& model, const Cluster& cluster,
                                       const PlanWishes& wishes) {
  Candidates found;
  Search search(model, cluster, wishes);
  absl::Status first_refusal;
  for (const Layout& layout : LayoutsToTry(model, cluster, wishes)) {
    const auto plan = MakePlan(model.config, search.WithBalancedStages(layout));
    if (!plan.ok()) {
      if (first_refusal.ok()) first_refusal = plan.status();
      continue;
    }
    Candidate c = search.Evaluate(*plan);
    (c.fits ? found.fitting : found.refused).push_back(std::move(c));
  }
  if (found.fitting.empty() && found.refused.empty()) {
    if (!first_refusal.ok()) return first_refusal;
    // A layout that was asked for says best itself what is wrong with it.
    Layout asked{.pp = std::max(1, wishes.pp), .tp = std::max(1, wishes.tp), .ep = std::max(1, wishes.ep)};
    asked.vision = std::max(0, wishes.vision);
    RETURN_IF_ERROR(MakePlan(model.config, asked).status());
    return InvalidArgument("{} ranks: {} needs {}", cluster.ranks(), ToString(asked), asked.ranks());
  }
  std::stable_sort(found.fitting.begin(), found.fitting.end(), [&](const Candidate& a, const Candidate& b) {
    return Rank(wishes.goal, a) < Rank(wishes.goal, b);
  });
  std::stable_sort(found.refused.begin(), found.refused.end(), [&](const Candidate& a, const Candidate& b) {
    return a.largest_rank - a.limit < b.largest_rank - b.limit;
  });
  return found;
}

int FewestNodes(const PlannedModel& model, Cluster cluster, const PlanWishes& wishes) {
  constexpr int kMostNodes = 64;
  for (int nodes = 1; nodes <= kMostNodes; nodes *= 2) {
    cluster.nodes = nodes;
    const auto found = FindLayouts(model, cluster, wishes);
    if (found.ok() && !found->fitting.empty()) return nodes;
  }
  return 0;
}

std::vector<RankMemory> MemoryOfRanks(const PlannedModel& model, const Candidate& c) {
  std::vector<RankMemory> ranks;
  for (int r = 0; r < c.layout().ranks(); ++r) {
    ranks.push_back(MemoryOfRank(model.config, c.plan, model.table, r, model.held, c.sizes));
  }
  return ranks;
}

}  // namespace fulger
