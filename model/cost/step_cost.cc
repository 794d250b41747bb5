#include "model/cost/step_cost.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace fulger {
namespace {

constexpr double kFloat = 4;
// Products, norms, routing and what lies between them, of one layer.
constexpr double kOperationsPerLayer = 12;
constexpr double kOperationsOfHead = 6;

struct RankWork {
  double weights = 0, states = 0, kv = 0;  // bytes
  double flops = 0;
  double operations = 0;
};

double Of(const ComponentBytes& bytes, Component c) {
  return static_cast<double>(bytes[static_cast<size_t>(c)]);
}

RankWork WorkOfRank(const ModelConfig& config, const RankPlan& rank, const RankMemory& memory,
                    const StepShape& shape, const ExpertPicks& picks) {
  const TextConfig& text = config.text;
  const auto hidden = static_cast<double>(text.hidden);
  const auto sequences = static_cast<double>(shape.sequences);
  const auto rows = sequences * static_cast<double>(shape.rows);
  const auto inner = static_cast<double>(rank.query_heads.size() * text.head_dim);
  const auto kv_width = static_cast<double>(rank.kv_heads.size() * text.head_dim);
  const auto dim = static_cast<double>(text.head_dim);
  const auto context = static_cast<double>(shape.context);
  double lightning = 0, softmax = 0;
  for (int64_t l = rank.layers.begin; l < rank.layers.end; ++l) {
    (text.layer_kinds[static_cast<size_t>(l)] == LayerKind::kLightning ? lightning : softmax) += 1;
  }
  RankWork work;
  work.weights = Of(memory.weights, Component::kLightningAttention) +
                 Of(memory.weights, Component::kSoftmaxAttention) + Of(memory.weights, Component::kRouter) +
                 Of(memory.weights, Component::kNorms);
  const auto held = static_cast<double>(rank.experts.size());
  work.weights += Of(memory.weights, Component::kExperts) * std::min(1.0, picks.most_experts / held);
  if (rank.last_stage) work.weights += Of(memory.weights, Component::kLmHead);
  work.states = 2 * sequences * static_cast<double>(SlotBytes(config, rank));
  work.kv = (sequences * context + rows) * static_cast<double>(KvBytesPerToken(config, rank, kCacheDType));

  const double attention = lightning * 5 * hidden * inner + softmax * 2 * hidden * (inner + kv_width);
  const double router = (lightning + softmax) * hidden * static_cast<double>(text.experts);
  const double expert = 3 * hidden * static_cast<double>(rank.expert_columns.size());
  const double expert_rows =
      rows * static_cast<double>(text.experts_per_token) * picks.most_share * (lightning + softmax);
  work.flops = 2 * rows * (attention + router) + 2 * expert_rows * expert;
  work.flops += softmax * 4 * rows * context * inner;
  work.flops += lightning * rows * inner *
                (shape.rows == 1 ? 5 * dim : 4 * (static_cast<double>(text.block_size) + dim));
  if (rank.last_stage) work.flops += 2 * sequences * hidden * static_cast<double>(rank.vocab.size());
  work.operations = kOperationsPerLayer * (lightning + softmax) + (rank.last_stage ? kOperationsOfHead : 0);
  return work;
}

double MessageSeconds(const CollectiveRates& rates, double bytes) {
  return rates.latency_seconds + (rates.bytes_per_second > 0 ? bytes / rates.bytes_per_second : 0);
}

}  // namespace

double AllReduceSeconds(const CollectiveRates& rates, int ranks, double bytes) {
  if (ranks <= 1) return 0;
  const double share = 2.0 * (ranks - 1) / ranks;
  return rates.latency_seconds + share * bytes / rates.bytes_per_second;
}

ExpertPicks SampleExpertPicks(int64_t experts, int64_t per_row, int64_t groups, int64_t rows) {
  constexpr int64_t kDraws = 20000;
  const int64_t trials = std::clamp<int64_t>(kDraws / std::max<int64_t>(1, rows * per_row), 4, 4000);
  const int64_t group_size = experts / groups;
  std::mt19937_64 random(1);
  ExpertPicks picks;
  std::vector<int64_t> count(static_cast<size_t>(experts));
  std::vector<int64_t> chosen(static_cast<size_t>(per_row));
  for (int64_t trial = 0; trial < trials; ++trial) {
    std::fill(count.begin(), count.end(), 0);
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t k = 0; k < per_row; ++k) {
        const auto end = chosen.begin() + k;
        int64_t expert = 0;
        do {
          expert = static_cast<int64_t>(random() % static_cast<uint64_t>(experts));
        } while (std::find(chosen.begin(), end, expert) != end);
        chosen[static_cast<size_t>(k)] = expert;
        ++count[static_cast<size_t>(expert)];
      }
    }
    int64_t most = 0, most_picks = 0, all = 0;
    for (int64_t g = 0; g < groups; ++g) {
      int64_t hit = 0, sum = 0;
      for (int64_t e = g * group_size; e < (g + 1) * group_size; ++e) {
        hit += count[static_cast<size_t>(e)] > 0 ? 1 : 0;
        sum += count[static_cast<size_t>(e)];
      }
      all += hit;
      most = std::max(most, hit);
      most_picks = std::max(most_picks, sum);
    }
    picks.mean_experts += static_cast<double>(all) / static_cast<double>(groups);
    picks.most_experts += static_cast<double>(most);
    picks.most_share += static_cast<double>(most_picks) / static_cast<double>(rows * per_row);
  }
  const auto n = static_cast<double>(trials);
  return {picks.mean_experts / n, picks.most_experts / n, picks.most_share / n};
}

StepWork WorkOfStep(const ModelConfig& config, const Plan& plan, const std::vector<RankMemory>& memory,
                    std::span<const StepShape> parts) {
  double rows = 0;
  for (const StepShape& part : parts) rows += static_cast<double>(part.sequences * part.rows);
  const auto experts = static_cast<double>(config.text.experts);
  const double left_out = std::pow(1 - static_cast<double>(config.text.experts_per_token) / experts, rows);
  StepWork total;
  for (int p = 0; p < plan.layout.pp; ++p) {
    const RankPlan& rank = plan.ranks[static_cast<size_t>(plan.stage_rank(p, 0))];
    const auto ranks = static_cast<double>(plan.layout.tp);
    const auto held = static_cast<double>(rank.experts.size());
    const ExpertPicks picks{.mean_experts = held * (1 - left_out),
                            .most_experts = held * (1 - left_out),
                            .most_share = held / experts};
    double weights = 0;  // the same for every part: read once
    for (const StepShape& part : parts) {
      const RankWork work = WorkOfRank(config, rank, memory[static_cast<size_t>(p)], part, picks);
      weights = work.weights;
      total.states += ranks * work.states;
      total.kv += ranks * work.kv;
      total.flops += ranks * work.flops;
    }
    total.weights += ranks * weights;
  }
  return total;
}

StepTime PredictStep(const ModelConfig& config, const Plan& plan, const std::vector<RankMemory>& memory,
                     const std::vector<StageRates>& rates, const StepShape& shape, int64_t groups) {
  const Layout& layout = plan.layout;
  const int64_t rows = shape.sequences * shape.rows;
  const ExpertPicks picks =
      SampleExpertPicks(config.text.experts, config.text.experts_per_token, layout.ep, rows);
  const double stream = static_cast<double>(rows * config.text.hidden) * kFloat;
  const double sums = static_cast<double>(rows) * kFloat;  // travel with lightning attention's output
  StepTime time;
  double all_stages = 0;
  for (int p = 0; p < layout.pp; ++p) {
    const RankPlan& rank = plan.ranks[static_cast<size_t>(plan.stage_rank(p, 0))];
    const StageRates& r = rates[static_cast<size_t>(p)];
    const RankWork work = WorkOfRank(config, rank, memory[static_cast<size_t>(p)], shape, picks);
    const double bytes = work.weights + work.states + work.kv;
    const double read = bytes / r.read_bytes_per_second;
    const double compute = std::max(0.0, work.flops / r.flops_per_second - read);
    const double fixed = work.operations * r.operation_seconds;
    double collectives = 0;
    for (int64_t l = rank.layers.begin; l < rank.layers.end; ++l) {
      const bool lightning = config.text.layer_kinds[static_cast<size_t>(l)] == LayerKind::kLightning;
      collectives += AllReduceSeconds(r.collective, layout.tp, stream + (lightning ? sums : 0)) +
                     AllReduceSeconds(r.collective, layout.tp, stream);
    }
    if (rank.first_stage) collectives += AllReduceSeconds(r.collective, layout.tp, stream);  // embedding
    if (rank.last_stage && layout.tp > 1) {
      const double logits = static_cast<double>(shape.sequences * config.text.vocab) * kFloat;
      collectives +=
          r.collective.latency_seconds + logits * (layout.tp - 1) / layout.tp / r.collective.bytes_per_second;
    }
    // To the next stage the stream; from the last to the first the ids.
    const double message = layout.pp == 1 ? 0 : MessageSeconds(r.next, rank.last_stage ? sums : stream);
    const double seconds = read + compute + fixed + collectives + message;
    time.weights += work.weights / r.read_bytes_per_second;
    time.states += work.states / r.read_bytes_per_second;
    time.kv += work.kv / r.read_bytes_per_second;
    time.compute += compute;
    time.fixed += fixed;
    time.collectives += collectives;
    time.messages += message;
    time.slowest_stage = std::max(time.slowest_stage, seconds);
    all_stages += seconds;
  }
  time.queue = std::max(0.0, static_cast<double>(groups) * time.slowest_stage - time.latency());
  time.bubble = time.between_tokens() - static_cast<double>(groups) * all_stages / layout.pp;
  return time;
}

}  // namespace fulger
