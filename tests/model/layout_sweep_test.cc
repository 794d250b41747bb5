// The layout never changes the answer: the same greedy tokens as the reference, and the same seeded tokens as
// one rank, whatever tp x pp x ep x vision, chunking, batch mix and number of steps in flight. Ranks are
// threads here; tests/cluster runs the same model over MPI.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/model/golden_run.h"
#include "tests/support/pairwise.h"
#include "tests/support/status_matchers.h"

namespace fulger {
namespace {

constexpr int kText = 1, kPicture = 2, kSeeded = 3, kLate = 4, kKinds = 4;

struct Case {
  Layout layout;
  int64_t chunk = 64;
  int in_flight = 1;
  int64_t block_size = 16;  // tokens of a KV block
  int batch = 4;            // requests, of the kinds below in turn
};

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return fmt::format("pp{}_tp{}_ep{}_v{}_chunk{}_ahead{}_block{}_batch{}", c.layout.pp, c.layout.tp,
                     c.layout.ep, c.layout.vision, c.chunk, c.in_flight, c.block_size, c.batch);
}

class LayoutSweep : public testing::TestWithParam<Case> {
 protected:
  static void SetUpTestSuite() {
    text_ = *GoldenCheckpoint::Make("g5_text");
    picture_ = *GoldenCheckpoint::Make("g5_image_middle");
    const Case alone{.layout = {}, .chunk = 4096, .in_flight = 1};
    auto tokens = RunBatch(alone);
    ASSERT_TRUE(tokens.ok()) << tokens.status();
    baseline_ = new std::map<uint64_t, std::vector<int32_t>>(*std::move(tokens));
    auto int8 = RunBatch({.layout = {.experts = ExpertFormat::kInt8}, .chunk = 4096, .in_flight = 1});
    ASSERT_TRUE(int8.ok()) << int8.status();
    int8_baseline_ = new std::map<uint64_t, std::vector<int32_t>>(*std::move(int8));
  }
  static void TearDownTestSuite() {
    text_.reset();
    picture_.reset();
    delete baseline_;
    delete int8_baseline_;
  }

  // Requests in turn: the golden text, the golden picture, a seeded one, and one that joins late and leaves
  // early.
  static absl::StatusOr<std::map<uint64_t, std::vector<int32_t>>> RunBatch(const Case& c) {
    ThreadReplicaOptions options;
    options.runner.slots = 9;
    options.runner.block_size = c.block_size;
    options.runner.blocks = 4096 / c.block_size;
    // Both cases are of one model with one set of weights.
    ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(text_->dir(), c.layout, options));
    for (const RankPlan& rank : replica->plan().ranks) {
      const ComponentBytes expected = RankWeightBytes(TensorTable(replica->config()), rank, DType::kF32);
      EXPECT_EQ(replica->held()[static_cast<size_t>(rank.rank)], expected) << "rank " << rank.rank;
    }
    RETURN_IF_ERROR(picture_->Encode(*replica));
    PlanDriver driver(*replica, options.runner.block_size, options.runner.blocks, options.runner.slots);
    std::vector<DriverRequest> requests;
    for (int i = 0; i < c.batch; ++i) {
      ASSIGN_OR_RETURN(requests.emplace_back(), MakeRequest(1 + i % kKinds, c.chunk));
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
    return r;
  }

  static std::unique_ptr<GoldenCheckpoint> text_, picture_;
  static std::map<uint64_t, std::vector<int32_t>>*baseline_, *int8_baseline_;
};

std::unique_ptr<GoldenCheckpoint> LayoutSweep::text_, LayoutSweep::picture_;
std::map<uint64_t, std::vector<int32_t>>* LayoutSweep::baseline_ = nullptr;
std::map<uint64_t, std::vector<int32_t>>* LayoutSweep::int8_baseline_ = nullptr;

TEST_P(LayoutSweep, SameTokens) {
  ASSERT_OK_AND_ASSIGN(auto tokens, RunBatch(GetParam()));
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> text, text_->ExpectedTokens());
  ASSERT_OK_AND_ASSIGN(const std::vector<int32_t> picture, picture_->ExpectedTokens());
  std::vector<int32_t> late(text.begin(), text.begin() + 7);
  ASSERT_EQ(baseline_->at(kSeeded).size(), 24);
  for (int i = 0; i < GetParam().batch; ++i) {
    const int kind = 1 + i % kKinds;
    if (GetParam().layout.experts == ExpertFormat::kInt8) {
      // Another model than the reference's, and the same one in every layout.
      EXPECT_EQ(tokens.at(static_cast<uint64_t>(1 + i)), int8_baseline_->at(static_cast<uint64_t>(kind)))
          << "request " << i << " of kind " << kind;
      continue;
    }
    const std::vector<int32_t>& expected = kind == kText      ? text
                                           : kind == kPicture ? picture
                                           : kind == kSeeded  ? baseline_->at(kSeeded)
                                                              : late;
    EXPECT_EQ(tokens.at(static_cast<uint64_t>(1 + i)), expected) << "request " << i << " of kind " << kind;
  }
}

// Every tp with every ep that divides it at pp 1 and 2, within 32 ranks; deeper pipelines at tp 1 and 2.
std::vector<Case> AllLayouts() {
  std::vector<Case> cases;
  int n = 0;
  const std::vector<int64_t> chunks = {64, 1, 7, 600, 33, 128};
  const auto add = [&](Layout layout) {
    cases.push_back(
        {.layout = layout, .chunk = chunks[static_cast<size_t>(n) % chunks.size()], .in_flight = 1 + n % 3});
    ++n;
  };
  for (int pp : {1, 2}) {
    for (int tp : {1, 2, 4, 8, 16}) {
      for (int ep = 1; ep <= tp; ep *= 2) {
        if (pp * tp <= 32) add({.pp = pp, .tp = tp, .ep = ep, .vision = pp * tp < 32 ? n % 2 : 0});
      }
    }
  }
  for (int pp : {4, 8}) {
    for (int tp : {1, 2}) add({.pp = pp, .tp = tp, .ep = 1, .vision = n % 2});
  }
  add({.pp = 2, .tp = 2, .ep = 2, .vision = 2});
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
  const std::vector<int> batches = {1, 2, 3, 5, 8};
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

// Experts as int8: whole, cut by columns over two, four and sixteen ranks, and dealt out.
std::vector<Case> Int8() {
  const ExpertFormat int8 = ExpertFormat::kInt8;
  return {{.layout = {.pp = 2, .experts = int8}, .chunk = 33},
          {.layout = {.tp = 2, .experts = int8}, .chunk = 7},
          {.layout = {.tp = 2, .ep = 2, .experts = int8}, .chunk = 600},
          {.layout = {.pp = 2, .tp = 4, .ep = 2, .vision = 1, .experts = int8}, .in_flight = 2},
          {.layout = {.tp = 4, .experts = int8}, .chunk = 128, .batch = 8},
          {.layout = {.tp = 16, .experts = int8}, .in_flight = 2}};
}

INSTANTIATE_TEST_SUITE_P(Int8, LayoutSweep, testing::ValuesIn(Int8()), CaseName);
INSTANTIATE_TEST_SUITE_P(Pairs, LayoutSweep, testing::ValuesIn(Pairs()), CaseName);
INSTANTIATE_TEST_SUITE_P(All, LayoutSweep, testing::ValuesIn(AllLayouts()), CaseName);

}  // namespace
}  // namespace fulger
