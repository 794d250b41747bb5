// The same greedy tokens from a copy for a layout as from the checkpoint: the reference's where experts are
// as stored, those of the checkpoint in int8 otherwise.
#include <gtest/gtest.h>

#include "model/shards/shard_writer.h"
#include "tests/model/golden_run.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

absl::StatusOr<std::vector<int32_t>> Tokens(const GoldenCheckpoint& checkpoint, const std::string& dir,
                                            const Layout& layout) {
  const ThreadReplicaOptions options;
  ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(dir, layout, options));
  RETURN_IF_ERROR(checkpoint.Encode(*replica));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  ASSIGN_OR_RETURN(const DriverRequest request, checkpoint.Request(1, 64));
  ASSIGN_OR_RETURN(const auto tokens, driver.Run({request}));
  return tokens.at(1);
}

class ShardedCopyTokens : public testing::TestWithParam<const char*> {};

TEST_P(ShardedCopyTokens, AreTheCheckpoints) {
  ASSERT_OK_AND_ASSIGN(const auto golden, GoldenCheckpoint::Make(GetParam()));
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, LoadModelConfig(golden->dir()));
  ASSERT_OK_AND_ASSIGN(const Checkpoint checkpoint, Checkpoint::Open(golden->dir(), config));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> expected, golden->ExpectedTokens());
  const int vision = config.vision ? 1 : 0;
  for (const Layout& layout :
       {Layout{}, Layout{.pp = 2, .tp = 2, .ep = 2, .vision = vision}, Layout{.tp = 4},
        Layout{.tp = 4, .ep = 2, .experts = WeightFormat::kInt8},
        Layout{.pp = 2, .tp = 2, .experts = WeightFormat::kInt8, .projections = WeightFormat::kInt8}}) {
    SCOPED_TRACE(ToString(layout));
    std::vector<int32_t> wanted = expected;
    if (layout.experts == WeightFormat::kInt8) {  // of one rank that makes int8 of the checkpoint as it loads
      ASSERT_OK_AND_ASSIGN(wanted, Tokens(*golden, golden->dir(),
                                          {.experts = layout.experts, .projections = layout.projections}));
    }
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(config, layout));
    testing_support::TempFolder copy("sharded_copy_tokens_test");
    ASSERT_OK(WriteShards(checkpoint, plan, copy.path(), {}).status());
    ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> tokens, Tokens(*golden, copy.path(), layout));
    EXPECT_EQ(tokens, wanted);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ShardedCopyTokens, testing::Values("g2_images", "g2_text"));

}  // namespace
}  // namespace fulger
