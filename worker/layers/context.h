// What a layer needs to run: passed explicitly, never global. One per rank, used by the executor thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device/device.h"
#include "kernels/ops/ops.h"
#include "worker/comm/collective.h"

namespace fulger {

// What the executor is doing right now, readable from any thread: so that a stuck rank is named with phase,
// layer and collective. `what` must be a string literal.
class Activity {
 public:
  struct Mark {
    const char* what;
    int64_t layer;
    std::chrono::steady_clock::time_point start;
  };

  void Set(const char* what, int64_t layer = -1) {
    layer_.store(layer, std::memory_order_relaxed);
    what_.store(what, std::memory_order_release);
    if (marks_ != nullptr) marks_->push_back({what, layer, std::chrono::steady_clock::now()});
  }
  // What is set from now on goes there as well; null: no more. Only by the thread that calls Set.
  void RecordInto(std::vector<Mark>* marks) { marks_ = marks; }
  std::string ToString() const {
    const char* what = what_.load(std::memory_order_acquire);
    return Text(what, layer_.load(std::memory_order_relaxed));
  }
  static std::string Text(const char* what, int64_t layer) {
    return layer < 0 ? std::string(what) : fmt::format("layer {}: {}", layer, what);
  }

 private:
  std::vector<Mark>* marks_ = nullptr;
  std::atomic<const char*> what_{"starting"};
  std::atomic<int64_t> layer_{-1};
};

// Rows that each expert got, over all layers; dead rows are not counted.
using ExpertRows = std::vector<uint64_t>;

struct ExecContext {
  Device& device;
  Stream& stream;
  Ops& ops;
  Arena& arena;
  Collective& stage;  // all ranks of this rank's stage
  Activity& activity;
  ExpertRows* expert_rows = nullptr;  // counted there; null: nobody wants it
};

// Health of a row (HealthNote): which part of the model first produced NaN or infinity.
inline constexpr int32_t kHealthy = -1;
inline constexpr int32_t kDeadRow = -2;  // of a finished sequence: writes nothing, samples nothing
inline constexpr int32_t kEmbeddingTag = 0;
inline constexpr int32_t AttentionTag(int64_t layer) { return static_cast<int32_t>(1 + 2 * layer); }
inline constexpr int32_t MoeTag(int64_t layer) { return static_cast<int32_t>(2 + 2 * layer); }
inline std::string DescribeHealth(int32_t tag) {
  if (tag == kEmbeddingTag) return "embedding: NaN or infinity in weights or activations";
  return fmt::format("layer {} {}: NaN or infinity in weights or activations", (tag - 1) / 2,
                     (tag - 1) % 2 == 0 ? "attention" : "experts");
}

// The rows of one step, as the layers see them.
struct BatchRows {
  int64_t count = 0;  // T
  std::span<const LightningSegment> lightning;
  std::span<const AttentionSegment> attention;
  MutTensorView health;  // i32 [T]
};

}  // namespace fulger
