#include "coordinator/cli/memory_budget.h"

#include <algorithm>
#include <fstream>
#include <numeric>

#include "model/cost/rank_memory.h"

namespace fulger {
namespace {

// VL-01's own config says 8,192, which one picture can exceed; the model was trained far beyond.
constexpr int64_t kMostContext = 131072;
constexpr int64_t kDefaultContexts = 2;

int64_t Sum(const ComponentBytes& bytes) { return std::accumulate(bytes.begin(), bytes.end(), int64_t{0}); }

std::string Span(const Range& range) {
  return range.size() == 1 ? std::to_string(range.begin) : fmt::format("{}..{}", range.begin, range.end - 1);
}

}  // namespace

absl::StatusOr<MemoryBudget> PlanMemoryBudget(const ModelConfig& config, const Plan& plan,
                                              const std::vector<TensorSpec>& table,
                                              const MemoryWishes& wishes) {
  if (wishes.max_context > 0 && wishes.cache_tokens > 0 && wishes.cache_tokens < wishes.max_context) {
    return InvalidArgument(
        "--cache-tokens {} cannot hold one sequence of --max-context {}: raise the one or lower the other",
        wishes.cache_tokens, wishes.max_context);
  }
  int64_t weights = 0, per_token = 0, slots = 0;
  for (const RankPlan& rank : plan.ranks) {
    weights += Sum(RankWeightBytes(table, rank, wishes.weights));
    if (rank.vision_only) continue;
    per_token += KvBytesPerToken(config, rank, kCacheDType);
    slots += (wishes.max_sequences + wishes.anchors) * SlotBytes(config, rank);
  }
  const int64_t context = wishes.max_context > 0 ? wishes.max_context : kMostContext;
  MemoryBudget budget;
  budget.cache_tokens = wishes.cache_tokens > 0 ? wishes.cache_tokens : kDefaultContexts * context;
  const std::string sizes = fmt::format(
      "weights {}, states of {} sequences and {} anchors {}, keys and values {} per token",
      HumanBytes(weights), wishes.max_sequences, wishes.anchors, HumanBytes(slots), HumanBytes(per_token));
  if (wishes.ranks_decide && wishes.cache_tokens == 0) {
    budget.cache_tokens = 0;
    budget.max_context = context;
    budget.arithmetic = fmt::format(
        "{}; cache: what is left of each GPU, context at most {} (config.json says {}, not enforced)", sizes,
        context, config.text.max_positions);
    return budget;
  }
  std::string limit;
  if (!wishes.ranks_decide && wishes.cache_tokens == 0 && wishes.available > 0 && per_token > 0) {
    const int64_t room = std::min(wishes.available / 4, wishes.available - weights - slots);
    const int64_t tokens = std::max<int64_t>(room, 0) / per_token;
    const int64_t needed = wishes.max_context > 0 ? wishes.max_context : wishes.block_size;
    if (tokens < needed) {
      return ResourceExhausted(
          "{} free in memory; {}: room for {} tokens of cache, and {} are needed. Lower --max-sequences, "
          "--anchors or --max-context, use more hosts, or say --cache-tokens",
          HumanBytes(wishes.available), sizes, tokens, needed);
    }
    budget.cache_tokens = std::min(budget.cache_tokens, tokens / wishes.block_size * wishes.block_size);
    limit = fmt::format(" (at most {}: a quarter of the {} that are free, or what is left of them)", tokens,
                        HumanBytes(wishes.available));
  }
  budget.cache_tokens = (budget.cache_tokens + wishes.block_size - 1) / wishes.block_size * wishes.block_size;
  budget.max_context = std::min(context, budget.cache_tokens);
  budget.arithmetic =
      fmt::format("{}; cache for {} tokens{} = {}, context {} (config.json says {}, not enforced)", sizes,
                  budget.cache_tokens, limit, HumanBytes(budget.cache_tokens * per_token), budget.max_context,
                  config.text.max_positions);
  return budget;
}

int64_t AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string key, rest;
  int64_t kib = 0;
  while (file >> key >> kib) {
    if (key == "MemAvailable:") return kib * 1024;
    std::getline(file, rest);
  }
  return 0;
}

std::vector<std::string> DescribePlan(const Plan& plan, const std::vector<TensorSpec>& table, DType weights) {
  std::vector<std::string> lines;
  for (const RankPlan& rank : plan.ranks) {
    std::string line = fmt::format("rank {}: ", rank.rank);
    if (rank.vision_only) {
      line += "vision tower";
    } else {
      line += fmt::format("stage {}, layers {}, heads {}, KV heads {}, experts {}", rank.stage,
                          Span(rank.layers), Span(rank.query_heads), Span(rank.kv_heads), Span(rank.experts));
      if (rank.vocab.size() > 0) line += fmt::format(", vocabulary {}", Span(rank.vocab));
      if (rank.holds_vision) line += ", vision tower";
    }
    const ComponentBytes bytes = RankWeightBytes(table, rank, weights);
    line += fmt::format("; {} of weights", HumanBytes(Sum(bytes)));
    std::string parts;
    for (int c = 0; c < kComponents; ++c) {
      const int64_t n = bytes[static_cast<size_t>(c)];
      if (n > 0)
        parts +=
            fmt::format("{}{} {}", parts.empty() ? "" : ", ", Name(static_cast<Component>(c)), HumanBytes(n));
    }
    lines.push_back(fmt::format("{} ({})", line, parts));
  }
  return lines;
}

}  // namespace fulger
