#include "model/cost/rank_memory.h"

#include <algorithm>
#include <numeric>

namespace fulger {
namespace {

constexpr int64_t kFloat = 4;
constexpr int64_t kAlignmentRoom = int64_t{1} << 16;  // of all allocations of a step together

// See VisionTower for the terms: beside the stream, one of embedding, attention, MLP and projector.
int64_t VisionArenaBytes(const ModelConfig& config) {
  const VisionConfig& v = *config.vision;
  const int64_t tokens = kTilesPerBatch * (v.patches() + 1);
  const int64_t per_token =
      v.hidden + std::max({v.hidden + 3 * v.patch_size * v.patch_size, 6 * v.hidden,
                           2 * v.hidden + v.intermediate, v.hidden + config.text.hidden});
  return tokens * per_token * kFloat + kAlignmentRoom;
}

}  // namespace

int64_t RankMemory::weight_total() const {
  return std::accumulate(weights.begin(), weights.end(), int64_t{0});
}

int64_t TilesPerPass(const Layout& layout) {
  constexpr int kMostBatches = 2;
  return kTilesPerBatch * (layout.vision > 0 ? 1 : std::min(layout.tp, kMostBatches));
}

int64_t LogitShardWidth(const ModelConfig& config, const Layout& layout) {
  return (config.text.vocab + layout.tp - 1) / layout.tp;
}

int64_t MaxGatheredRows(int64_t tokens, int64_t slots) {
  return std::max(kScoredRows, std::min(tokens, slots));
}

// See StageRunner::RunRows and the Forward functions of worker/layers for the terms.
int64_t ArenaBytes(const ModelConfig& config, const Layout& layout, const RankPlan& rank,
                   const CacheSizes& sizes) {
  if (rank.vision_only) return VisionArenaBytes(config);
  const TextConfig& text = config.text;
  const int64_t t = sizes.max_step_tokens;
  const int64_t inner = rank.query_heads.size() * text.head_dim;
  const int64_t kv = rank.kv_heads.size() * text.head_dim;
  const int64_t per_token = 3 * text.hidden + 2                              // stream, features, branch
                            + std::max(5 * inner, 2 * inner + 2 * kv)        // attention
                            + 2 * text.experts_per_token + text.hidden + 4;  // experts, index
  const int64_t samples = MaxGatheredRows(t, sizes.slots);
  const int64_t head = samples * (text.hidden + 1 + LogitShardWidth(config, layout) * (1 + layout.tp));
  const int64_t bytes = (t * per_token + head) * kFloat + kAlignmentRoom;
  return rank.holds_vision ? std::max(bytes, VisionArenaBytes(config)) : bytes;
}

RankMemory MemoryOfRank(const ModelConfig& config, const Plan& plan, const std::vector<TensorSpec>& table,
                        int rank, const std::vector<DType>& held, const CacheSizes& sizes) {
  const RankPlan& own = plan.ranks[static_cast<size_t>(rank)];
  RankMemory memory;
  memory.weights = RankWeightBytes(table, own, held);
  memory.arena = ArenaBytes(config, plan.layout, own, sizes);
  if (own.vision_only) return memory;
  memory.kv = sizes.blocks * sizes.block_size * KvBytesPerToken(config, own, kCacheDType);
  memory.slots = sizes.slots * SlotBytes(config, own);
  return memory;
}

}  // namespace fulger
