// A rank that loads a copy holds what a rank that loads the checkpoint holds: every byte of every tensor, for
// layouts of every kind, each naming scheme and element type. What a load of the checkpoint gives is held to
// the weight formula by golden_checkpoints_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/file.h"
#include "model/shards/shard_writer.h"
#include "tests/golden/model/golden.h"
#include "tests/support/memory_device.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/status_matchers.h"
#include "worker/weights/loader.h"

namespace fulger {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing_support::MemoryDevice;
using testing_support::TempFolder;

class ShardedCopyOf : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { ASSERT_OK_AND_ASSIGN(config_, LoadModelConfig(dir_)); }

  // Small blocks and chunks, so that tensors have several.
  absl::Status Shard(const Plan& plan, const std::string& out) {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(dir_, config_));
    ShardOptions options;
    options.threads = 2;
    options.block_bytes = 4096;
    options.chunk_bytes = 10'000;
    return WriteShards(checkpoint, plan, out, options).status();
  }

  // The rank's rows and columns of what one rank alone holds.
  static void ExpectPartOf(const TensorView& whole, const TensorView& part, const TensorSpec& spec,
                           const TensorSlice& slice) {
    ASSERT_EQ(part.dtype(), whole.dtype());
    ASSERT_EQ(part.elements(), SliceElements(spec, slice));
    const auto size = static_cast<int64_t>(ByteSize(part.dtype()));
    const int64_t inner = spec.shape.size() > 2 ? spec.elements() / spec.shape[0] / spec.shape[1] : 1;
    const int64_t stride = spec.elements() / spec.shape[0] * size;
    const int64_t width = slice.columns.size() * inner * size;
    const auto* from = static_cast<const std::byte*>(whole.raw()) + slice.columns.begin * inner * size;
    const auto* held = static_cast<const std::byte*>(part.raw());
    for (int64_t r = 0; r < slice.rows.size(); ++r) {
      ASSERT_EQ(
          std::memcmp(held + r * width, from + (slice.rows.begin + r) * stride, static_cast<size_t>(width)),
          0)
          << spec.name << " row " << r;
    }
  }

  static const TensorView& Scales(const ExpertWeights& stack, const TensorSpec& spec) {
    return spec.cut == Cut::kExpertColumns    ? stack.w2_scale
           : spec.name.ends_with("w1.weight") ? stack.w1_scale
                                              : stack.w3_scale;
  }

  void ExpectCopyHoldsTheSame(const Layout& layout, WeightDType dtype) {
    SCOPED_TRACE(ToString(layout));
    ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(dir_, config_));
    ASSERT_OK_AND_ASSIGN(const Plan one, MakePlan(config_, {.experts = layout.experts}));
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, layout));
    LoadOptions options;
    options.dtype = dtype;
    MemoryDevice device(true);
    ASSERT_OK_AND_ASSIGN(const WeightStore whole, LoadWeights(checkpoint, one.ranks[0], device, options));
    TempFolder out("sharded_copy_test");
    ASSERT_OK(Shard(plan, out.path()));
    for (const RankPlan& rank : plan.ranks) {
      ASSERT_OK_AND_ASSIGN(const auto source, OpenWeights(out.path(), config_, plan, rank.rank));
      MemoryDevice own(/*host_accessible=*/rank.index == 0);
      LoadStats stats;
      // No agreement on the scales of cut rows: the copy has them.
      ASSERT_OK_AND_ASSIGN(const WeightStore store, LoadWeights(*source, rank, own, options, &stats));
      EXPECT_EQ(stats.bytes_verified, stats.bytes_used);
      EXPECT_EQ(stats.bytes_read, stats.bytes_used) << "not a byte too many";
      for (const TensorSlice& slice : RankTensors(checkpoint.table(), rank)) {
        const TensorSpec& spec = checkpoint.table()[slice.tensor];
        ASSERT_OK_AND_ASSIGN(const TensorView view, store.Get(spec.name));
        ASSERT_OK_AND_ASSIGN(const TensorView all, whole.Get(spec.name));
        ExpectPartOf(all, view, spec, slice);
        if (spec.expert < 0 || layout.experts != WeightFormat::kInt8) continue;
        ASSERT_OK_AND_ASSIGN(const ExpertWeights stack, store.Experts(spec.layer));
        ASSERT_OK_AND_ASSIGN(const ExpertWeights all_stack, whole.Experts(spec.layer));
        const float* scales = Scales(stack, spec).row<float>(spec.expert - rank.experts.begin);
        const float* all_scales = Scales(all_stack, spec).row<float>(spec.expert);
        ASSERT_TRUE(std::equal(scales, scales + slice.rows.size(), all_scales + slice.rows.begin))
            << spec.name;
      }
    }
  }

  const std::string dir_ = golden::CheckpointFolder(GetParam());
  ModelConfig config_;
};

TEST_P(ShardedCopyOf, EveryRankHoldsTheSame) {
  const int vision = config_.vision ? 1 : 0;
  for (const Layout& layout : {Layout{}, Layout{.pp = 2, .tp = 2}, Layout{.tp = 4, .ep = 4},
                               Layout{.pp = 2, .tp = 4, .ep = 2, .vision = vision}}) {
    if (!MakePlan(config_, layout).ok()) continue;  // the smallest model has too few heads
    for (const WeightFormat experts : {WeightFormat::kStored, WeightFormat::kInt8}) {
      Layout cut = layout;
      cut.experts = experts;
      ExpectCopyHoldsTheSame(cut, WeightDType::kKeep);
    }
  }
  ExpectCopyHoldsTheSame({.tp = 2}, WeightDType::kF32);
}

INSTANTIATE_TEST_SUITE_P(All, ShardedCopyOf, testing::Values("g0", "g0_native", "g2_bf16", "g4"),
                         [](const auto& param) { return std::string(param.param); });

class ShardedCopyOfG0 : public ShardedCopyOf {};

TEST_P(ShardedCopyOfG0, DamageAndOtherLayoutsAreRefused) {
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config_, {.tp = 2}));
  TempFolder out("sharded_copy_test");
  ASSERT_OK(Shard(plan, out.path()));
  ASSERT_OK_AND_ASSIGN(const Plan other, MakePlan(config_, {.pp = 2}));
  EXPECT_THAT(OpenWeights(out.path(), config_, other, 0).status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("cut for pp 1 x tp 2")));
  // The last byte of the file; of a rank whose file is alone there.
  const std::string path = out.File("rank-00001.safetensors");
  std::filesystem::remove(out.File("rank-00000.safetensors"));
  ASSERT_OK_AND_ASSIGN(std::string bytes, ReadFile(path));
  bytes.back() ^= 0x40;
  testing_support::WriteBytes(path, bytes);
  ASSERT_OK_AND_ASSIGN(const auto source, OpenWeights(out.path(), config_, plan, 1));
  for (const bool host_accessible : {true, false}) {
    MemoryDevice device(host_accessible);
    EXPECT_THAT(
        LoadWeights(*source, plan.ranks[1], device, {}).status(),
        StatusIs(absl::StatusCode::kDataLoss,
                 AllOf(HasSubstr(path), HasSubstr("tensor image_newline: bytes"),
                       HasSubstr(fmt::format("to {} of the file: expected checksum", bytes.size())))));
    LoadOptions unchecked;
    unchecked.verify = false;
    EXPECT_OK(LoadWeights(*source, plan.ranks[1], device, unchecked).status());
  }
}

INSTANTIATE_TEST_SUITE_P(All, ShardedCopyOfG0, testing::Values("g0"));

}  // namespace
}  // namespace fulger
