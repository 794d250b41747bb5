// How well pipeline stages work at the same time, with ops replaced by waits. The only test that judges a
// time: it runs alone, and what it judges is a share of the time that the waits themselves took on this
// machine.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <numeric>

#include "tests/model/golden_run.h"
#include "tests/support/golden_checkpoint.h"
#include "tests/support/status_matchers.h"
#include "tests/support/waiting_device.h"

namespace fulger {
namespace {

// Four stages, four micro-batches, 85% of the ideal rate.
TEST(Pipeline, StagesWorkAtTheSameTime) {
  constexpr int kStages = 4;
  constexpr int kTokens = 15;  // of each of four sequences
  ASSERT_OK_AND_ASSIGN(auto checkpoint, GoldenCheckpoint::Make("g2_text"));
  std::array<std::atomic<int64_t>, kStages> waited{};
  std::atomic<size_t> made = 0;
  ThreadReplicaOptions options;
  options.make_device = [&] { return WaitingDevice::Make(std::chrono::milliseconds(5), &waited.at(made++)); };
  ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(checkpoint->dir(), Layout{.pp = kStages}, options));
  PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
  std::vector<DriverRequest> batch;
  for (uint64_t id = 1; id <= 4; ++id) {
    ASSERT_OK_AND_ASSIGN(DriverRequest r, checkpoint->Request(id));
    r.prompt.resize(4);
    r.sampling.set_max_tokens(kTokens);
    batch.push_back(r);
  }
  const auto start = std::chrono::steady_clock::now();
  ASSERT_OK(driver.RunAhead(batch, 2 * kStages, kStages).status());
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  // What one stage waited in all, and what the first token takes to reach the last stage.
  const double stage =
      1e-9 * static_cast<double>(std::accumulate(waited.begin(), waited.end(), int64_t{0})) / kStages;
  const double ideal = stage * (1 + (kStages - 1.0) / (4 * kTokens));
  std::printf("pipeline: %.3f s, ideal %.3f s, ratio %.2f\n", seconds, ideal, ideal / seconds);
  EXPECT_GE(stage, 0.005 * 4 * kTokens) << "each step waits at least once on every stage";
  EXPECT_GE(ideal / seconds, 0.85);
}

}  // namespace
}  // namespace fulger
