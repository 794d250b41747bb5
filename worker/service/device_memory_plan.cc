#include "worker/service/device_memory_plan.h"

#include <algorithm>

#include "base/human_bytes.h"
#include "model/cost/rank_memory.h"

namespace fulger {
namespace {

// A prompt with a large picture and its answer: below that, fewer slots are the better bargain.
constexpr int64_t kUsefulTokens = 16384;

// All of it on one GPU, in bytes.
struct Parts {
  RankMemory memory;
  int64_t reserve = 0;
  int64_t total() const { return memory.total() + reserve; }
};

std::string Describe(const Parts& parts, const CacheSizes& sizes, bool vision_only) {
  std::string text = fmt::format("weights {}", HumanBytes(parts.memory.weight_total()));
  if (!vision_only) {
    text += fmt::format(", lightning states of {} sequences and anchors {}, keys and values of {} tokens {}",
                        sizes.slots, HumanBytes(parts.memory.slots), sizes.blocks * sizes.block_size,
                        HumanBytes(parts.memory.kv));
  }
  return text + fmt::format(", a step's temporaries {}, reserve for NCCL, scratch and pictures {}",
                            HumanBytes(parts.memory.arena), HumanBytes(parts.reserve));
}

class Planner {
 public:
  Planner(const ModelConfig& config, const Plan& plan, int rank, const std::vector<TensorSpec>& table,
          const std::vector<DType>& held, const v1::Assign& assign, const DeviceRoom& room)
      : config_(config),
        plan_(plan),
        own_(plan.ranks[static_cast<size_t>(rank)]),
        assign_(assign),
        room_(room),
        budget_(std::min(room.memory.free, Share())),
        weights_(RankWeightBytes(table, own_, held)),
        per_token_(own_.vision_only ? 0 : KvBytesPerToken(config, own_, kCacheDType)) {}

  absl::StatusOr<DeviceMemoryPlan> Make() {
    sizes_ = {.blocks = 0,
              .block_size = assign_.block_size(),
              .slots = assign_.max_sequences(),
              .max_step_tokens = assign_.max_step_tokens()};
    if (!own_.vision_only) ChooseCaches();
    const Parts parts = Take(sizes_);
    if (parts.total() > budget_) return Refusal(parts);
    DeviceMemoryPlan made;
    made.options.blocks = sizes_.blocks;
    made.options.block_size = sizes_.block_size;
    made.options.slots = sizes_.slots;
    made.options.max_step_tokens = sizes_.max_step_tokens;
    made.arithmetic =
        fmt::format("{}: {} = {} of {} free", room_.device, Describe(parts, sizes_, own_.vision_only),
                    HumanBytes(parts.total()), HumanBytes(budget_));
    return made;
  }

 private:
  Parts Take(const CacheSizes& sizes) const {
    Parts parts{.memory = {.weights = weights_, .arena = ArenaBytes(config_, plan_.layout, own_, sizes)},
                .reserve = assign_.reserve_bytes()};
    if (own_.vision_only) return parts;
    parts.memory.kv = sizes.blocks * sizes.block_size * per_token_;
    parts.memory.slots = sizes.slots * SlotBytes(config_, own_);
    return parts;
  }

  // What this rank could have if nobody but the ranks of the replica were there.
  int64_t Share() const { return room_.memory.total / std::max(1, room_.ranks) - room_.memory.own; }

  int64_t BlocksOf(int64_t tokens) const { return (tokens + sizes_.block_size - 1) / sizes_.block_size; }

  // Leaves sizes_ at the least that is wanted where not even that fits.
  void ChooseCaches() {
    const bool asked = assign_.cache_tokens() > 0;
    const int64_t least = asked ? assign_.cache_tokens() : std::max<int64_t>(assign_.min_cache_tokens(), 1);
    const int64_t least_slots = assign_.min_sequences() > 0 ? assign_.min_sequences() : sizes_.slots;
    const auto most = [&] { return sizes_.slots * std::max(assign_.max_context(), int64_t{1}); };
    const int64_t useful = asked ? least : std::max(least, std::min(kUsefulTokens, assign_.max_context()));
    const auto fits = [&](int64_t tokens) {
      sizes_.blocks = BlocksOf(tokens);
      return Take(sizes_).total() <= budget_;
    };
    while (!fits(useful) && sizes_.slots > least_slots) {
      sizes_.slots = std::max(least_slots, sizes_.slots / 2);
    }
    sizes_.blocks = BlocksOf(least);
    if (asked) return;
    const int64_t left = budget_ - Take(sizes_).total();
    if (left <= 0) return;
    // A stage without softmax layers keeps no keys: it limits nobody.
    const int64_t more = per_token_ == 0 ? most() : left / (per_token_ * sizes_.block_size);
    sizes_.blocks = std::min(sizes_.blocks + more, std::max(sizes_.blocks, BlocksOf(most())));
  }

  absl::Status Refusal(const Parts& parts) const {
    const DeviceMemory& memory = room_.memory;
    const int64_t held = memory.total - memory.free - memory.own;
    std::string share, cure;
    if (room_.ranks > 1) {
      share = fmt::format(", of which each of {} ranks may have {}", room_.ranks, HumanBytes(Share()));
    }
    if (parts.total() <= Share()) {
      cure = "end what else runs there (nvidia-smi), or ";
    }
    cure += "spread the model over more ranks (--tp, --pp)";
    if (!own_.vision_only) {
      cure += ", lower --cache-tokens or --max-context, --max-sequences, --anchors or --max-step-tokens";
    }
    const std::string own =
        memory.own > 0 ? fmt::format(", {} by cuBLASLt's workspace", HumanBytes(memory.own)) : std::string();
    return ResourceExhausted(
        "rank {} does not fit on {}: {} = {} ({} bytes), and {} are free of {}{}; {} are held by other "
        "processes "
        "and by this one's CUDA context{}. Cure: {}",
        own_.rank, room_.device, Describe(parts, sizes_, own_.vision_only), HumanBytes(parts.total()),
        parts.total(), HumanBytes(memory.free), HumanBytes(memory.total), share, HumanBytes(held), own, cure);
  }

  const ModelConfig& config_;
  const Plan& plan_;
  const RankPlan& own_;
  const v1::Assign& assign_;
  const DeviceRoom& room_;
  const int64_t budget_;
  const ComponentBytes weights_;
  const int64_t per_token_;
  CacheSizes sizes_;
};

}  // namespace

absl::StatusOr<DeviceMemoryPlan> PlanDeviceMemory(const ModelConfig& config, const Plan& plan, int rank,
                                                  const std::vector<TensorSpec>& table,
                                                  const std::vector<DType>& held, const v1::Assign& assign,
                                                  const DeviceRoom& room) {
  return Planner(config, plan, rank, table, held, assign, room).Make();
}

}  // namespace fulger
