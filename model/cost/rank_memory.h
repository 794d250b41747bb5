// What a rank holds in memory, to the byte. The worker sizes its caches and its arena by these functions and
// `fulger plan` prints them, so a plan is what the ranks report when they are ready. Not in it: the program
// itself, MPI's and gRPC's buffers, and on a GPU the context and NCCL's buffers; a plan has a reserve for
// those.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/tensors.h"

namespace fulger {

// Keys and values are float32 on every device for now; lightning states always.
inline constexpr DType kCacheDType = DType::kF32;
// Rows whose logits are gathered at once where every row's are wanted, not the sampled ones alone.
inline constexpr int64_t kScoredRows = 8;
// Tiles that a rank runs through the vision tower together.
inline constexpr int64_t kTilesPerBatch = 8;

// In memory a tensor is as it is stored, but that F16 becomes F32; `widen`: everything is F32 (--weight-dtype
// f32).
constexpr DType HeldType(DType stored, bool widen) {
  return !widen && stored == DType::kBF16 ? DType::kBF16 : DType::kF32;
}

// What a rank is told to make room for.
struct CacheSizes {
  int64_t blocks = 0;       // of keys and values
  int64_t block_size = 16;  // tokens
  int64_t slots = 0;        // lightning states: sequences and anchors
  int64_t max_step_tokens = 2048;
};

// Bytes.
struct RankMemory {
  ComponentBytes weights{};
  int64_t kv = 0;
  int64_t slots = 0;
  int64_t arena = 0;  // temporaries of a step

  int64_t weight_total() const;
  int64_t total() const { return weight_total() + kv + slots + arena; }
};

// `held[i]`: the type in which tensor i of the table lies in memory (experts of another format: see
// RankWeightBytes).
RankMemory MemoryOfRank(const ModelConfig& config, const Plan& plan, const std::vector<TensorSpec>& table,
                        int rank, const std::vector<DType>& held, const CacheSizes& sizes);

// An upper bound on what a step, or the encoding of a picture, takes at once on `rank`, alignment included.
int64_t ArenaBytes(const ModelConfig& config, const Layout& layout, const RankPlan& rank,
                   const CacheSizes& sizes);

// The most tiles of several pictures that one pass of the vision stage takes: a batch of a vision rank, or
// two that the ranks of stage 0 share. A picture with more is a pass by itself. A step may have to wait for a
// pass and for no more, and the features of a pass take no more memory than those of a large picture (19
// tiles) do.
int64_t TilesPerPass(const Layout& layout);

// Rows of the vocabulary that every rank's shard of the logits is padded to.
int64_t LogitShardWidth(const ModelConfig& config, const Layout& layout);
// The most rows whose logits are gathered at once by a step of `tokens` tokens and `slots` sequences.
int64_t MaxGatheredRows(int64_t tokens, int64_t slots);

}  // namespace fulger
