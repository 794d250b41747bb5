// The layout never changes the answer: the same greedy tokens as the reference, and the same seeded tokens as
// one rank, whatever tp x pp x ep x vision, chunking, batch mix and number of steps in flight; and every rank
// reads and holds what the plan says. Ranks are threads here; tests/cluster runs the same model over MPI.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/golden_run.h"
#include "tests/support/pairwise.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

constexpr int kText = 1, kPicture = 2, kSeeded = 3, kLate = 4, kLong = 5, kKinds = 5;
constexpr size_t kLongPrompt = 620;  // more than any chunk, and than lightning's blocks of 256

// Of the request at this place of a batch. In small chunks the long prompt would be hundreds of steps.
int KindAt(int place, int64_t chunk) {
  return chunk < 64 ? 1 + place % (kKinds - 1) : 1 + (place + kKinds - 1) % kKinds;
}

constexpr WeightFormat kInt8 = WeightFormat::kInt8;
bool IsInt8(const Layout& layout) { return layout.experts == kInt8 || layout.projections == kInt8; }

struct Case {
  Layout layout;
  int64_t chunk = 64;
  int in_flight = 1;
  int64_t block_size = 16;  // tokens of a KV block
  int batch = kKinds;       // requests, of the kinds above in turn
};

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("pp{}_tp{}_ep{}_v{}_chunk{}_ahead{}_block{}_batch{}", c.layout.pp, c.layout.tp,
                     c.layout.ep, c.layout.vision, c.chunk, c.in_flight, c.block_size, c.batch) +
         (c.layout.experts == kInt8 ? "_experts" : "") +
         (c.layout.projections == kInt8 ? "_projections" : "");
}

class LayoutSweep : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    text_ = *GoldenCheckpoint::Make("g5_text");
    picture_ = *GoldenCheckpoint::Make("g5_image_middle");
    baseline_ = new Tokens(Alone({}));
    ExpectClearChoices();
  }
  static void TearDownTestSuite() {
    text_.reset();
    picture_.reset();
    delete baseline_;
    int8_baselines_.clear();
  }

  using Tokens = std::map<uint64_t, std::vector<int32_t>>;  // by request; of a baseline, by kind

  // One request of each kind on one rank, each prompt whole.
  static Tokens Alone(const Layout& layout) {
    const auto tokens = RunBatch({.layout = layout, .chunk = 4096});
    EXPECT_TRUE(tokens.ok()) << tokens.status();
    Tokens by_kind;
    for (int i = 0; i < kKinds && tokens.ok(); ++i) {
      by_kind[static_cast<uint64_t>(KindAt(i, 4096))] = tokens->at(static_cast<uint64_t>(1 + i));
    }
    return by_kind;
  }

  // The reference leaves room between the first two logits at every step of its cases; the long prompt is
  // none of them.
  static void ExpectClearChoices() {
    LogitsRecorder recorder;
    ThreadReplicaOptions options;
    options.logits = &recorder;
    ASSERT_OK_AND_ASSIGN(auto replica, ThreadReplica::Start(text_->dir(), Layout{}, options));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    ASSERT_OK_AND_ASSIGN(const DriverRequest request, MakeRequest(kLong, 4096));
    ASSERT_OK(driver.Run({request}).status());
    for (auto row = recorder.rows().find(kLongPrompt - 1); row != recorder.rows().end(); ++row) {
      std::vector<float> logits = row->second;
      std::sort(logits.rbegin(), logits.rend());
      EXPECT_GT(logits[0] - logits[1], 0.002F * std::max(std::abs(logits[0]), std::abs(logits.back())))
          << "position " << row->first << ": take another prompt";
    }
  }

  // The plan's bytes of every rank, per component: read from the files (in which all is float32) and held.
  static void ExpectThePlansBytes(const ThreadReplica& replica) {
    const std::vector<TensorSpec> table = TensorTable(replica.config());
    for (const RankPlan& rank : replica.plan().ranks) {
      const auto r = static_cast<size_t>(rank.rank);
      EXPECT_EQ(replica.held()[r], RankWeightBytes(table, rank, DType::kF32)) << "rank " << r;
      RankPlan in_files = rank;
      in_files.expert_format = in_files.projection_format = WeightFormat::kStored;
      const LoadStats& loaded = replica.loaded()[r];
      EXPECT_EQ(loaded.used, RankWeightBytes(table, in_files, DType::kF32)) << "rank " << r;
      int64_t gaps = 0;  // the most that may be read between the rows of column cuts
      for (const TensorSlice& slice : RankTensors(table, rank)) {
        const TensorSpec& spec = table[slice.tensor];
        if (spec.shape.size() < 2 || slice.columns.size() == spec.shape[1]) continue;
        gaps += (slice.rows.size() - 1) * std::max(4 * slice.columns.size(), LoadOptions{}.gap_bytes);
      }
      EXPECT_LE(loaded.bytes_read - loaded.bytes_used, gaps) << "rank " << r;
    }
  }

  // Requests in turn: the golden text, the golden picture, a seeded one, one that joins late and leaves
  // early, and, first in large chunks, one with a long prompt.
  static absl::StatusOr<Tokens> RunBatch(const Case& c) {
    ThreadReplicaOptions options;
    options.runner.slots = 9;
    options.runner.max_step_tokens = 2048;
    options.runner.block_size = c.block_size;
    options.runner.blocks = 4096 / c.block_size;
    // Both cases are of one model with one set of weights.
    ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(text_->dir(), c.layout, options));
    ExpectThePlansBytes(*replica);
    RETURN_IF_ERROR(picture_->Encode(*replica));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    std::vector<DriverRequest> requests;
    for (int i = 0; i < c.batch; ++i) {
      ASSIGN_OR_RETURN(requests.emplace_back(), MakeRequest(KindAt(i, c.chunk), c.chunk));
      requests.back().id = static_cast<uint64_t>(1 + i);
    }
    return driver.RunAhead(requests, c.in_flight);
  }

  static absl::StatusOr<DriverRequest> MakeRequest(int kind, int64_t chunk) {
    ASSIGN_OR_RETURN(DriverRequest r, (kind == kPicture ? picture_ : text_)->Request(1, chunk));
    if (kind == kSeeded) {
      r.sampling.set_temperature(0.8F);
      r.sampling.set_top_p(0.9F);
      r.sampling.set_top_k(50);
      r.sampling.set_repetition_penalty(1.1F);
      r.sampling.set_presence_penalty(0.2F);
      r.sampling.set_seed(20250122);
      r.sampling.set_max_tokens(24);
    }
    if (kind == kLate) {
      r.start_step = 5;
      r.sampling.set_max_tokens(7);
    }
    if (kind == kLong) {
      for (size_t i = r.prompt.size(); i < kLongPrompt; ++i) {
        r.prompt.push_back((31 * r.prompt[i % 24] + 17 * static_cast<int32_t>(i)) % 997);
      }
      r.sampling.set_max_tokens(5);
    }
    return r;
  }

  // One rank with the same formats, run once.
  static const Tokens& Int8Baseline(const Layout& layout) {
    const auto [at, first] = int8_baselines_.try_emplace({layout.experts, layout.projections});
    if (first) at->second = Alone({.experts = layout.experts, .projections = layout.projections});
    return at->second;
  }

  static std::unique_ptr<GoldenCheckpoint> text_, picture_;
  static Tokens* baseline_;
  static std::map<std::pair<WeightFormat, WeightFormat>, Tokens> int8_baselines_;
};

std::unique_ptr<GoldenCheckpoint> LayoutSweep::text_, LayoutSweep::picture_;
LayoutSweep::Tokens* LayoutSweep::baseline_ = nullptr;
std::map<std::pair<WeightFormat, WeightFormat>, LayoutSweep::Tokens> LayoutSweep::int8_baselines_;

TEST_P(LayoutSweep, SameTokens) {
  if (IsInt8(GetParam().layout) && !TestDeviceTakesInt8()) GTEST_SKIP() << "int8 weights run on the CPU only";
  ASSERT_OK_AND_ASSIGN(auto tokens, RunBatch(GetParam()));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> text, text_->ExpectedTokens());
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> picture, picture_->ExpectedTokens());
  std::vector<int32_t> late(text.begin(), text.begin() + 7);
  ASSERT_EQ(baseline_->at(kSeeded).size(), 24);
  for (int i = 0; i < GetParam().batch; ++i) {
    const int kind = KindAt(i, GetParam().chunk);
    if (IsInt8(GetParam().layout)) {
      // Another model than the goldens', and the same one in every layout.
      EXPECT_EQ(tokens.at(static_cast<uint64_t>(1 + i)),
                Int8Baseline(GetParam().layout).at(static_cast<uint64_t>(kind)))
          << "request " << i << " of kind " << kind;
      continue;
    }
    const std::vector<int32_t>& expected = kind == kText      ? text
                                           : kind == kPicture ? picture
                                           : kind == kLate    ? late
                                                              : baseline_->at(static_cast<uint64_t>(kind));
    EXPECT_EQ(tokens.at(static_cast<uint64_t>(1 + i)), expected) << "request " << i << " of kind " << kind;
  }
}

// Every tp with every ep that divides it at pp 1 and 2, within 32 ranks; deeper pipelines at tp 1 and 2; each
// without a vision rank, and with one a smaller batch that has the picture in it.
std::vector<Case> AllLayouts() {
  std::vector<Case> cases;
  int n = 0;
  const std::vector<int64_t> chunks = {64, 1, 7, 600, 33, 128};
  const auto add = [&](Layout layout) {
    for (int vision = 0; layout.pp * layout.tp + vision <= 32 && vision < 2; ++vision) {
      layout.vision = vision;
      const int64_t chunk = chunks[static_cast<size_t>(n + 3 * vision) % chunks.size()];
      const int batch = vision == 0 ? kKinds : chunk < 64 ? 2 : 3;
      cases.push_back({.layout = layout, .chunk = chunk, .in_flight = 1 + (n + vision) % 3, .batch = batch});
    }
    ++n;
  };
  for (int pp : {1, 2}) {
    for (int tp : {1, 2, 4, 8, 16}) {
      for (int ep = 1; ep <= tp; ep *= 2) {
        if (pp * tp <= 32) add({.pp = pp, .tp = tp, .ep = ep});
      }
    }
  }
  for (int pp : {4, 8}) {
    for (int tp : {1, 2}) add({.pp = pp, .tp = tp});
  }
  cases.push_back({.layout = {.pp = 2, .tp = 2, .ep = 2, .vision = 2}});
  return cases;
}

// Batch sizes, chunks, KV block sizes and steps in flight against layouts of every kind, all pairs.
std::vector<Case> Pairs() {
  const std::vector<Layout> layouts = {Layout{},
                                       {.tp = 4, .ep = 2},
                                       {.tp = 16, .ep = 4},
                                       {.pp = 2, .tp = 2, .ep = 2, .vision = 1},
                                       {.pp = 4, .vision = 2},
                                       {.pp = 8, .tp = 2}};
  const std::vector<int> batches = {1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<int64_t> chunks = {1, 2, 13, 100, 600};
  const std::vector<int64_t> blocks = {1, 4, 16, 64, 256};
  const std::vector<int> ahead = {1, 2, 5};
  std::vector<Case> cases;
  for (const auto& c :
       PairwiseCases({layouts.size(), batches.size(), chunks.size(), blocks.size(), ahead.size()})) {
    cases.push_back({.layout = layouts[c[0]],
                     .chunk = chunks[c[2]],
                     .in_flight = ahead[c[4]],
                     .block_size = blocks[c[3]],
                     .batch = batches[c[1]]});
  }
  return cases;
}

// Experts as int8: whole, cut by columns over two, four and sixteen ranks, and dealt out. Projections: whole,
// cut over two, four and sixteen ranks, of which eight pairs share a KV head; with both, matrices that the
// stage shares beside those that an expert group shares.
std::vector<Case> Int8() {
  return {{.layout = {.pp = 2, .experts = kInt8}, .chunk = 33},
          {.layout = {.tp = 2, .experts = kInt8}, .chunk = 7},
          {.layout = {.tp = 2, .ep = 2, .experts = kInt8}, .chunk = 600},
          {.layout = {.pp = 2, .tp = 4, .ep = 2, .vision = 1, .experts = kInt8}, .in_flight = 2},
          {.layout = {.tp = 4, .experts = kInt8}, .chunk = 128, .batch = 8},
          {.layout = {.tp = 16, .experts = kInt8}, .in_flight = 2},
          {.layout = {.pp = 2, .tp = 2, .projections = kInt8}, .chunk = 33},
          {.layout = {.tp = 16, .projections = kInt8}, .in_flight = 2},
          {.layout = {.pp = 4, .experts = kInt8, .projections = kInt8}, .chunk = 7, .in_flight = 5},
          {.layout = {.tp = 2, .experts = kInt8, .projections = kInt8}, .chunk = 1, .batch = 8},
          {.layout = {.pp = 2, .tp = 4, .ep = 2, .vision = 1, .experts = kInt8, .projections = kInt8},
           .in_flight = 2},
          {.layout = {.tp = 16, .ep = 4, .experts = kInt8, .projections = kInt8}, .chunk = 600}};
}

INSTANTIATE_TEST_SUITE_P(Int8, LayoutSweep, testing::ValuesIn(Int8()), CaseName);
INSTANTIATE_TEST_SUITE_P(Pairs, LayoutSweep, testing::ValuesIn(Pairs()), CaseName);
INSTANTIATE_TEST_SUITE_P(All, LayoutSweep, testing::ValuesIn(AllLayouts()), CaseName);

}  // namespace
}  // namespace fulger
