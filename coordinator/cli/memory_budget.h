// How many tokens the caches hold and how long a sequence may get, decided before any worker starts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/human_bytes.h"
#include "base/status.h"
#include "model/config.h"
#include "model/layout.h"
#include "model/tensors.h"

namespace fulger {

// What was asked for; 0: decide.
struct MemoryWishes {
  int64_t max_context = 0;
  int64_t cache_tokens = 0;
  int64_t max_sequences = 32;
  int64_t anchors = 0;  // saved prefixes: a lightning state each, like a sequence
  int64_t block_size = 16;
  DType weights = DType::kBF16;
  // GPU ranks: a cache that nobody named is sized by the ranks, from what their memory leaves.
  bool ranks_decide = false;
  // Free on the host that holds all ranks; 0: unknown, or the ranks are elsewhere.
  int64_t available = 0;
};

struct MemoryBudget {
  int64_t cache_tokens = 0;  // a multiple of the block size; 0: the ranks decide
  int64_t max_context = 0;   // at most cache_tokens, if those are known
  std::string arithmetic;    // one line for the log
};

// A default context of at most 131,072 tokens; a default cache of two contexts, in a quarter of the free
// memory and in what weights and lightning states leave of it. RESOURCE_EXHAUSTED shows the arithmetic when
// not even the context that was asked for fits; INVALID_ARGUMENT when the wishes contradict each other.
absl::StatusOr<MemoryBudget> PlanMemoryBudget(const ModelConfig& config, const Plan& plan,
                                              const std::vector<TensorSpec>& table,
                                              const MemoryWishes& wishes);

// Of this host, in bytes; 0 when unknown.
int64_t AvailableMemory();

// "rank 2: stage 1, layers 4..7, ..., 3.2 MiB of weights (experts 1.2 MiB, ...)": one line per rank.
std::vector<std::string> DescribePlan(const Plan& plan, const std::vector<TensorSpec>& table, DType weights);

}  // namespace fulger
