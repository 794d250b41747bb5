#include "worker/service/memory_plan.h"

#include <fstream>
#include <string>

namespace fulger {
namespace {

// Of this host, in bytes; 0 when /proc/meminfo cannot be read.
int64_t AvailableMemory() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kib = 0;
  std::string unit;
  while (file >> key >> kib) {
    std::getline(file, unit);
    if (key == "MemAvailable:") return kib * 1024;
  }
  return 0;
}

}  // namespace

absl::StatusOr<RunnerOptions> PlanMemory(const ModelConfig& config, const RankPlan& rank,
                                         const v1::Assign& assign) {
  RunnerOptions options;
  options.block_size = assign.block_size();
  options.slots = assign.max_sequences();
  options.max_step_tokens = assign.max_step_tokens();
  if (options.block_size <= 0 || options.slots <= 0 || options.max_step_tokens <= 0 ||
      assign.cache_tokens() <= 0) {
    return Internal(
        "assignment: block_size {}, max_sequences {}, max_step_tokens {} and cache_tokens {} must be "
        "positive",
        assign.block_size(), assign.max_sequences(), assign.max_step_tokens(), assign.cache_tokens());
  }
  options.blocks = (assign.cache_tokens() + options.block_size - 1) / options.block_size;
  if (rank.vision_only) return options;
  const int64_t kv = options.blocks * options.block_size * KvBytesPerToken(config, rank, options.kv_dtype);
  const int64_t slots = options.slots * SlotBytes(config, rank);
  const int64_t available = AvailableMemory();
  if (available > 0 && kv + slots > available) {
    return ResourceExhausted(
        "rank {}: {} cached tokens need {:.2f} GiB and {} sequences {:.2f} GiB, {:.2f} GiB are free: lower "
        "--cache-tokens "
        "or --max-sequences",
        rank.rank, assign.cache_tokens(), static_cast<double>(kv) / (1 << 30), options.slots,
        static_cast<double>(slots) / (1 << 30), static_cast<double>(available) / (1 << 30));
  }
  return options;
}

}  // namespace fulger
