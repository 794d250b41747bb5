// A layout says how the model is cut; a plan makes it concrete: which rank holds which layers, heads,
// experts, vocabulary rows and bytes. The coordinator makes the plan, each rank recomputes it and refuses
// another hash.
//
//   rank(stage p, index t) = p*tp + t; vision ranks follow.
//   ep divides tp and the number of experts. Index t is in expert group t/(tp/ep); group g holds experts
//   g*E/ep .. (g+1)*E/ep-1, each cut by intermediate columns over the group's tp/ep ranks.
//   KV heads are cut while tp <= kv_heads; above, tp is a multiple of kv_heads and index t holds head
//   t*kv/tp. Vocabulary: runs of ceil(V/tp) rows, the last short or empty. Stage p: layers floor(p*L/pp) ..
//   floor((p+1)*L/pp)-1, or stage_layers.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "model/config.h"
#include "model/tensors.h"

namespace fulger {

// How a kind of matrices is held: those of the experts, or the projections (IsProjection). Everything else
// stays as the checkpoint stores it: norms, routers, embedding, vision tower and projector.
enum class WeightFormat : uint8_t {
  kStored,
  kInt8,  // eight bits and a float32 scale per row (output channel) of the uncut matrix
};
std::string_view Name(WeightFormat format);  // "stored", "int8": the spelling of the flags
// `kind` is what a refusal names: "experts" or "projections".
absl::StatusOr<WeightFormat> WeightFormatFromName(std::string_view kind, std::string_view name);

struct Layout {
  int pp = 1;
  int tp = 1;
  int ep = 1;
  int dp = 1;                          // attention data parallel: must be 1
  int vision = 0;                      // ranks that hold only the vision tower; 0: stage 0 encodes
  std::vector<int> stage_layers = {};  // layers per stage; empty: even split
  WeightFormat experts = WeightFormat::kStored;
  WeightFormat projections = WeightFormat::kStored;

  int ranks() const { return pp * tp + vision; }
  bool operator==(const Layout&) const = default;
};
// "pp 2 x tp 2, ep 2, vision 1, experts int8, projections int8"
std::string ToString(const Layout& layout);

struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t size() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

struct RankPlan {
  int rank = 0;
  bool vision_only = false;
  int stage = 0;  // -1: vision_only
  int index = 0;  // within the stage, or among the vision ranks
  bool first_stage = false, last_stage = false;
  bool holds_vision = false;  // tower, projector and newline
  Range layers;               // global layer indices
  Range query_heads;
  Range kv_heads;  // size 1 when replicated
  int expert_group = 0;
  Range experts;
  Range expert_columns;  // of every held expert: rows of w1/w3, columns of w2
  WeightFormat expert_format = WeightFormat::kStored;
  WeightFormat projection_format = WeightFormat::kStored;
  // Rows of embedding (first stage) and lm_head (last stage): {0, 0} in other stages, and empty where the
  // runs end before this index.
  Range vocab;

  bool operator==(const RankPlan&) const = default;
};

struct Plan {
  Layout layout;
  std::vector<RankPlan> ranks;
  std::string hash;  // SHA-256 over the config, the layout and every rank's ranges
  int stage_rank(int stage, int index) const { return stage * layout.tp + index; }
};

// The message of a refusal says which rule fails with which numbers, and which layouts of that many ranks
// work.
absl::StatusOr<Plan> MakePlan(const ModelConfig& config, const Layout& layout);

// Every layout with exactly `ranks` language-model ranks that MakePlan accepts (vision 0), smallest pp first.
std::vector<Layout> PossibleLayouts(const ModelConfig& config, int ranks);

// The part of one tensor that a rank holds: rows of dim 0 and columns of dim 1 (a whole trailing block
// otherwise).
struct TensorSlice {
  size_t tensor = 0;  // index into the table
  Range rows;         // dim 0
  Range columns;      // dim 1; for 1-D tensors {0, 1}; dims past 1 are always whole
};
// Only what the rank holds, in the order of the table; empty slices are left out.
std::vector<TensorSlice> RankTensors(const std::vector<TensorSpec>& table, const RankPlan& rank);
int64_t SliceElements(const TensorSpec& spec, const TensorSlice& slice);

// Whether the rank holds this tensor in eight bits, with a float32 scale per row.
bool HeldAsInt8(const TensorSpec& spec, const RankPlan& rank);
// The ranks that hold the other columns of what `rank` holds of a matrix with this cut (kExpertColumns: of
// the same experts; kQueryHeadColumns: of the stage), itself included, ascending.
std::vector<int> RanksOfColumns(const Plan& plan, int rank, Cut cut);

using ComponentBytes = std::array<int64_t, kComponents>;
// Bytes per component in memory when every tensor is stored as `dtype`, but for what the plan holds in eight
// bits: one byte for each element, and the scales.
ComponentBytes RankWeightBytes(const std::vector<TensorSpec>& table, const RankPlan& rank, DType dtype);
// The same where tensor i of the table is held as `held[i]`. Experts are held in stacks of one type: the
// widest of those that the rank holds of the same matrix of a layer.
ComponentBytes RankWeightBytes(const std::vector<TensorSpec>& table, const RankPlan& rank,
                               const std::vector<DType>& held);

// Bytes one token's keys and values take on this rank, and one sequence's float32 lightning state.
int64_t KvBytesPerToken(const ModelConfig& config, const RankPlan& rank, DType dtype);
int64_t SlotBytes(const ModelConfig& config, const RankPlan& rank);

// Which of `vision_ranks` ranks encodes and keeps the picture `key` (a hash, so its first byte spreads
// evenly).
inline int VisionRankOf(std::string_view key, int vision_ranks) {
  return key.empty() || vision_ranks <= 0 ? 0 : static_cast<unsigned char>(key[0]) % vision_ranks;
}

}  // namespace fulger
