#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "coordinator/planner/layer_weights.h"
#include "coordinator/planner/plan_report.h"

namespace fulger {
namespace {

constexpr double kGiB = 1 << 30;

double GiB(int64_t bytes) { return static_cast<double>(bytes) / kGiB; }

// The unit that suits all of a table.
struct Unit {
  std::string_view name;
  double bytes;
};
Unit UnitFor(int64_t largest) {
  return largest >= (int64_t{1} << 30) ? Unit{"GiB", kGiB} : Unit{"MiB", 1 << 20};
}

std::string Count(int64_t n) {
  if (n >= 10'000'000) return fmt::format("{:.1f} M", 1e-6 * static_cast<double>(n));
  return fmt::format("{}", n);
}

std::string Seconds(double s) {
  if (s >= 100) return fmt::format("{:.0f} s", s);
  if (s < 5e-8) return "0";
  if (s >= 1) return fmt::format("{:.1f} s", s);
  return s >= 1e-3 ? fmt::format("{:.2f} ms", 1e3 * s) : fmt::format("{:.1f} us", 1e6 * s);
}

void Line(std::string* out, const std::string& text) { *out += text + "\n"; }

void Head(const PlanReport& r, std::string* out) {
  const Cluster& c = r.cluster;
  Line(out, fmt::format("model    {}: {} parameters, {:.2f} GiB stored ({})", r.model.name,
                        r.model.parameters(), GiB(r.model.stored_bytes()), r.model.source));
  if (c.gpu) {
    Line(out,
         fmt::format("cluster  {} node{} x {} {}, {:.1f} GiB each; rates {}", c.nodes,
                     c.nodes == 1 ? "" : "s", c.ranks_per_node, c.device, GiB(c.memory_bytes), c.source));
  } else {
    Line(out, fmt::format("cluster  {} node{} x {} CPU ranks of {} threads, {:.1f} GiB a node; rates {}",
                          c.nodes, c.nodes == 1 ? "" : "s", c.ranks_per_node, c.threads_per_rank,
                          GiB(c.memory_bytes), c.source));
  }
  const CacheSizes sizes = r.found.fitting.empty() ? CacheSizes{} : r.found.fitting[0].sizes;
  Line(out,
       fmt::format(
           "asked    goal {}; {} sequences of {} tokens, {} anchors: {} tokens of cache in blocks of {}, "
           "{} states, steps of at most {} tokens",
           Name(r.wishes.goal), r.wishes.max_sequences, r.wishes.context, r.wishes.anchors,
           sizes.blocks * sizes.block_size, sizes.block_size, sizes.slots, r.wishes.max_step_tokens));
  Line(out, fmt::format("         reserve of {:.2f} GiB a rank for {}: not measured, --reserve-gib",
                        GiB(c.reserve_bytes),
                        c.gpu ? "CUDA context, NCCL and the program" : "the program and MPI"));
}

void Table(const PlanReport& r, size_t most, std::string* out) {
  const auto& rows = r.found.fitting;
  const Unit unit = UnitFor(rows[0].largest_rank);
  Line(out, fmt::format("\n{} layouts fit, {} do not. Best first:", rows.size(), r.found.refused.size()));
  size_t width = 38;
  for (size_t i = 0; i < std::min(most, rows.size()); ++i) {
    width = std::max(width, ToString(rows[i].layout()).size());
  }
  Line(out, fmt::format("  #  {:<{}} {:>4} {:>9} {:>9} {:>9} {:>8} {:>10} {:>10} {:>9} {:>10} {:>8}",
                        "layout", width, "x", fmt::format("weights", unit.name), "a rank", "free", "most seq",
                        "longest", "token, 1", fmt::format("of {}", rows[0].batch), "tokens/s", "load"));
  for (size_t i = 0; i < std::min(most, rows.size()); ++i) {
    const Candidate& c = rows[i];
    int64_t weights = 0;
    for (const RankMemory& m : c.stages) weights = std::max(weights, m.weight_total());
    const auto in = [&](int64_t bytes) {
      return fmt::format("{:.2f}", static_cast<double>(bytes) / unit.bytes);
    };
    Line(out, fmt::format("{:>3}  {:<{}} {:>4} {:>9} {:>9} {:>9} {:>8} {:>10} {:>10} {:>9} {:>10.1f} {:>8}",
                          i + 1, ToString(c.layout()), width, c.replicas, in(weights), in(c.largest_rank),
                          in(c.limit - c.largest_rank), Count(c.most_sequences), Count(c.longest_context),
                          Seconds(c.alone.between_tokens()), Seconds(c.full.between_tokens()),
                          c.tokens_per_second, Seconds(c.load_seconds)));
  }
  Line(out,
       fmt::format(
           "     x: replicas. weights, a rank, free: {} of the largest rank. most seq: of {} tokens each, no "
           "anchors. longest: one sequence alone.",
           unit.name, r.wishes.context));
}

void Memory(const PlanReport& r, const Candidate& c, std::string* out) {
  const Unit unit = UnitFor(c.largest_rank);
  Line(out, fmt::format("\nlayout 1: {}, {} rank{}{}", ToString(c.layout()), c.layout().ranks(),
                        c.layout().ranks() == 1 ? "" : "s",
                        c.replicas > 1 ? fmt::format(", {} replicas", c.replicas) : ""));
  Line(out, fmt::format("  {:<7} {:<9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>18}", "stage", "layers",
                        "attention", "experts", "other", "KV", "states", "arena", "bytes of a rank"));
  const auto row = [&](const std::string& name, const std::string& layers, const RankMemory& m) {
    const auto of = [&](Component k) { return m.weights[static_cast<size_t>(k)]; };
    const int64_t attention = of(Component::kLightningAttention) + of(Component::kSoftmaxAttention);
    const int64_t experts = of(Component::kExperts);
    const auto in = [&](int64_t bytes) {
      return fmt::format("{:.2f}", static_cast<double>(bytes) / unit.bytes);
    };
    Line(out, fmt::format("  {:<7} {:<9} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>18}", name, layers,
                          in(attention), in(experts), in(m.weight_total() - attention - experts), in(m.kv),
                          in(m.slots), in(m.arena), m.total()));
  };
  constexpr size_t kShownStages = 16;
  for (size_t p = 0; p < std::min(c.stages.size(), kShownStages); ++p) {
    const Range layers = c.plan.ranks[static_cast<size_t>(c.plan.stage_rank(static_cast<int>(p), 0))].layers;
    row(std::to_string(p), fmt::format("{}..{}", layers.begin, layers.end - 1), c.stages[p]);
  }
  if (c.stages.size() > kShownStages) {
    Line(out, fmt::format("  and {} more: --json", c.stages.size() - kShownStages));
  }
  if (c.vision.has_value()) row("vision", "-", *c.vision);
  if (r.model.config.vision.has_value()) {
    Line(out, c.vision.has_value()
                  ? "  the vision tower has a rank of its own: pictures are encoded beside the steps"
                  : "  the vision tower lies beside stage 0: a picture is encoded between steps");
  }
}

void Times(const PlanReport& r, const Candidate& c, std::string* out) {
  Line(out, "\npredicted time between two tokens of a sequence, and its parts");
  Line(out, fmt::format("  {:<24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11} {:>10} {:>10}",
                        "sequences", "total", "weights", "states", "KV", "compute", "fixed", "collectives",
                        "messages", "queue"));
  const auto row = [&](const std::string& name, const StepTime& t) {
    Line(out, fmt::format("  {:<24} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10} {:>11} {:>10} {:>10}", name,
                          Seconds(t.between_tokens()), Seconds(t.weights), Seconds(t.states), Seconds(t.kv),
                          Seconds(t.compute), Seconds(t.fixed), Seconds(t.collectives), Seconds(t.messages),
                          Seconds(t.queue)));
  };
  row("1", c.alone);
  row(c.groups > 1 ? fmt::format("{} in {} groups", c.batch, c.groups) : std::to_string(c.batch), c.full);
  if (c.layout().pp > 1) {
    Line(out, fmt::format("  pipeline bubble: a stage waits {} of {} ({:.0f} %) with {} group{}",
                          Seconds(c.full.bubble), Seconds(c.full.between_tokens()),
                          100 * c.full.bubble / c.full.between_tokens(), c.groups, c.groups == 1 ? "" : "s"));
  }
  Line(out,
       fmt::format(
           "  first token of a prompt of {} tokens: {}; load: {} at {:.1f} GB/s from the file system (all "
           "ranks together)",
           r.wishes.prompt, Seconds(c.first_token_seconds), Seconds(c.load_seconds),
           1e-9 * r.cluster.storage_bytes_per_second));
  if (r.cluster.gpu) {
    Line(
        out,
        "  These are floors: bytes at the rate that others measured. This engine has not run on such a GPU.");
    const Layout& l = c.layout();
    if (l.experts == WeightFormat::kInt8 || l.projections == WeightFormat::kInt8) {
      Line(out, "  int8 weights run on CPUs only as yet: to serve on GPUs, plan with --experts stored.");
    }
  }
}

}  // namespace

std::vector<std::string> ServeFlagsOf(const PlanReport& r, const Candidate& c) {
  const Layout& l = c.layout();
  std::vector<std::string> flags = {"--tp", std::to_string(l.tp), "--pp", std::to_string(l.pp)};
  const auto add = [&](const std::string& name, const std::string& value) {
    flags.push_back(name);
    flags.push_back(value);
  };
  if (l.ep > 1) add("--ep", std::to_string(l.ep));
  if (l.vision > 0) add("--vision-ranks", std::to_string(l.vision));
  if (!l.stage_layers.empty()) add("--stage-layers", fmt::format("{}", fmt::join(l.stage_layers, ",")));
  if (l.experts != WeightFormat::kStored) add("--experts", std::string(Name(l.experts)));
  if (l.projections != WeightFormat::kStored) add("--projections", std::string(Name(l.projections)));
  add("--max-sequences", std::to_string(c.sequences));
  add("--anchors", std::to_string(c.anchors));
  add("--cache-tokens", std::to_string(c.sizes.blocks * c.sizes.block_size));
  add("--max-context", std::to_string(std::min(r.wishes.context, c.sizes.blocks * c.sizes.block_size)));
  add("--block-size", std::to_string(c.sizes.block_size));
  add("--max-step-tokens", std::to_string(c.sizes.max_step_tokens));
  return flags;
}

std::string PlanText(const PlanReport& r, size_t most) {
  std::string out;
  Head(r, &out);
  const Candidate& best = r.found.fitting[0];
  Table(r, most, &out);
  Memory(r, best, &out);
  Times(r, best, &out);
  Line(&out, fmt::format("\nserve it:\n  fulger serve --model DIR {}{}",
                         fmt::join(ServeFlagsOf(r, best), " "), r.cluster.gpu ? " --device cuda" : ""));
  return out;
}

std::string PlanRefusal(const PlanReport& r) {
  std::string out = fmt::format("no layout of {} fits on {} node{} of {} {}.\n", r.model.name,
                                r.cluster.nodes, r.cluster.nodes == 1 ? "" : "s", r.cluster.ranks_per_node,
                                r.cluster.gpu ? r.cluster.device : "CPU ranks");
  constexpr size_t kShown = 3;
  for (size_t i = 0; i < std::min(kShown, r.found.refused.size()); ++i) {
    const Candidate& c = r.found.refused[i];
    Line(&out, fmt::format("  {}: {}", ToString(c.layout()), c.refusal));
  }
  PlanWishes stored = r.wishes;
  for (const WeightFormat format : {WeightFormat::kStored, WeightFormat::kInt8}) {
    stored.experts = {format};
    stored.tp = stored.pp = stored.ep = 0;
    stored.vision = 0;
    stored.stage_layers.clear();
    const int nodes = FewestNodes(r.model, r.cluster, stored);
    Line(&out, nodes == 0 ? fmt::format("  experts {}: 64 such nodes are too few", Name(format))
                          : fmt::format("  experts {}: fits on {} such node{}", Name(format), nodes,
                                        nodes == 1 ? "" : "s"));
  }
  Line(&out, "  Or lower --max-sequences, --anchors, --context or --max-step-tokens.");
  return out;
}

}  // namespace fulger
