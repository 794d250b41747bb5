// The released checkpoint at full size: 913 GB of sparse files with true headers, written by
// tests/golden/model/released_checkpoint.py into a temporary folder (3 MB on disk).
//
// ReleasedCheckpoint.* needs 1 GB of memory. ReleasedCheckpointSlow.* loads a whole rank of pp 10 x tp 8
// (11.7 GB) and runs only where ctest includes the label `slow`: 15 GB of memory.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "base/bfloat16.h"
#include "model/layout.h"
#include "tests/golden/model/weight_formula.h"
#include "tests/support/memory_device.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/status_matchers.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

using testing_support::MemoryDevice;
using testing_support::TempFolder;

const char kGate[] = "language_model.model.layers.0.block_sparse_moe.gate.weight";

Layout MakeLayout(int pp, int tp, int vision = 0) {
  Layout layout;
  layout.pp = pp;
  layout.tp = tp;
  layout.vision = vision;
  return layout;
}

class ReleasedCheckpoint : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>("released_checkpoint");
    const std::string command = std::string(FULGER_PYTHON) + " tests/golden/model/released_checkpoint.py " +
                                folder_->path() + " --fill '*" + kGate + "'";
    ASSERT_EQ(std::system(command.c_str()), 0) << command;
  }
  static void TearDownTestSuite() { folder_.reset(); }

  absl::StatusOr<Checkpoint> Open() {
    ASSIGN_OR_RETURN(config_, LoadModelConfig(folder_->path()));
    return Checkpoint::Open(folder_->path(), config_);
  }
  // Everything is zero but one tensor, which follows the formula.
  void ExpectContents(const Checkpoint& checkpoint, const WeightStore& store, const RankPlan& rank) {
    for (const TensorSlice& slice : RankTensors(checkpoint.table(), rank)) {
      const TensorSpec& spec = checkpoint.table()[slice.tensor];
      ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(spec.name));
      const uint16_t* bits = view.data<uint16_t>();
      if (spec.name == kGate) {
        std::vector<float> want(static_cast<size_t>(spec.elements()));
        golden::FillWeight(spec.name, spec.shape, 0, want);
        for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(bits[i], FloatToBF16(want[i])) << i;
        continue;
      }
      uint16_t any = 0;
      for (int64_t i = 0; i < view.elements(); ++i) any |= bits[i];
      EXPECT_EQ(any, 0) << spec.name;
    }
  }
  void LoadAndExpect(const Layout& layout, size_t rank_index, int64_t want_bytes) {
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, layout));
    const RankPlan& rank = plan.ranks[rank_index];
    MemoryDevice device(/*host_accessible=*/true);
    LoadStats stats;
    ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(checkpoint, rank, device, {}, &stats));
    EXPECT_EQ(store.total_bytes(), want_bytes);
    EXPECT_EQ(stats.bytes_used, want_bytes);
    EXPECT_EQ(stats.bytes_read, want_bytes);  // no column cut of these is as wide as half a row
    RecordProperty("seconds", std::to_string(stats.seconds));
    ExpectContents(checkpoint, store, rank);
  }

  static std::unique_ptr<TempFolder> folder_;
  ModelConfig config_;
};
std::unique_ptr<TempFolder> ReleasedCheckpoint::folder_;
using ReleasedCheckpointSlow = ReleasedCheckpoint;

TEST_F(ReleasedCheckpoint, AuditIsCompleteWithinSeconds) {
  const auto start = std::chrono::steady_clock::now();
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Open());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  EXPECT_LT(seconds, 10);
  RecordProperty("seconds", std::to_string(seconds));
  EXPECT_OK(checkpoint.Complete());
  EXPECT_EQ(checkpoint.audit().resolved, 8637);
  EXPECT_EQ(checkpoint.audit().bytes, (std::map<std::string, int64_t>{{"BF16", 912'874'438'656}}));
  EXPECT_TRUE(checkpoint.audit().extra.empty());
  EXPECT_EQ(checkpoint.Fingerprint().size(), 64);
}

TEST_F(ReleasedCheckpoint, VisionRank) {
  LoadAndExpect(MakeLayout(1, 1, 1), 1, 2 * (303'505'408 + 44'052'480 + 6'144));
}

TEST_F(ReleasedCheckpoint, RanksOfOneLayer) {
  // pp 80 x tp 64. One lightning layer: attention 251,666,432 / 64, experts 5,435,817,984 / 64, router
  // 196,608, two norms; the first stage holds 3,126 rows of the embedding too (and no tower, with a vision
  // rank).
  LoadAndExpect(MakeLayout(80, 64, 1), 5,
                2 * (251'666'432 / 64 + 5'435'817'984 / 64 + 196'608 + 2 * 6'144 + 3'126 * 6'144));
  // A softmax layer: q and o cut, one whole KV head of k and v.
  LoadAndExpect(MakeLayout(80, 64, 1), 7 * 64 + 63,
                2 * (2 * 8192 * 6144 / 64 + 2 * 128 * 6144 + 5'435'817'984 / 64 + 196'608 + 2 * 6'144));
}

TEST_F(ReleasedCheckpointSlow, RankOfTenStages) {
  // pp 10 x tp 8: 7 lightning and 1 softmax layer.
  LoadAndExpect(
      MakeLayout(10, 8), 3 * 8 + 5,
      2 * (7 * 251'666'432LL / 8 + 113'246'208 / 8 + 8 * 5'435'817'984LL / 8 + 8 * (196'608 + 2 * 6'144)));
}

}  // namespace
}  // namespace fulger
