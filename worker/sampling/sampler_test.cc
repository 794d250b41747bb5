#include "worker/sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/sampling/philox.h"

namespace fulger {
namespace {

using absl::StatusCode;
using testing::AllOf;
using testing::HasSubstr;

v1::SamplingParams Params(float temperature) {
  v1::SamplingParams params;
  params.set_temperature(temperature);
  params.set_top_p(1);
  params.set_repetition_penalty(1);
  params.set_max_tokens(100);
  params.set_logprobs(-1);
  return params;
}

class SamplerTest : public testing::Test {
 protected:
  absl::StatusOr<Sampled> Run(const std::vector<float>& logits, const v1::SamplingParams& params,
                              int64_t position = 0) {
    const VocabMask mask(static_cast<int64_t>(logits.size()), unused_);
    const std::span<const float> shards[] = {logits};
    return sampler_.Sample({.logits = shards,
                            .params = &params,
                            .counts = &counts_,
                            .mask = &mask,
                            .position = position,
                            .generated = generated_});
  }
  int32_t IdOf(const std::vector<float>& logits, const v1::SamplingParams& params, int64_t position = 0) {
    const absl::StatusOr<Sampled> sampled = Run(logits, params, position);
    EXPECT_OK(sampled.status());
    return sampled.ok() ? sampled->id : -1;
  }

  Sampler sampler_;
  TokenCounts counts_;
  std::vector<int32_t> unused_;
  int64_t generated_ = 0;
};

TEST_F(SamplerTest, GreedyTakesTheLargestAndTheLowestIdOfATie) {
  EXPECT_EQ(IdOf({0.5f, 3.0f, -1.0f, 3.0f}, Params(0)), 1);
  v1::SamplingParams one = Params(1.5f);
  one.set_top_k(1);
  for (int64_t position = 0; position < 50; ++position) {
    EXPECT_EQ(IdOf({0.5f, 3.0f, -1.0f, 3.0f}, one, position), 1);
  }
}

// Greedy parameters may leave the fields of random sampling unset.
TEST_F(SamplerTest, GreedyNeedsNoOtherParameters) { EXPECT_EQ(IdOf({1.0f, 2.0f}, v1::SamplingParams()), 1); }

TEST_F(SamplerTest, TiesAtTheEdgeOfTopKGoToLowerIds) {
  v1::SamplingParams params = Params(1);
  params.set_top_k(2);
  for (int64_t position = 0; position < 200; ++position) {
    EXPECT_LE(IdOf({1.0f, 1.0f, 1.0f, 1.0f}, params, position), 1);
  }
}

// Of equal tokens the lower id owns the lower part of [0, 1).
TEST_F(SamplerTest, TheDrawFollowsTheOrder) {
  const std::vector<float> logits = {0.0f, std::log(2.0f), 0.0f};  // 1/4, 1/2, 1/4
  const v1::SamplingParams params = Params(1);
  const VocabMask mask(3);
  const std::span<const float> shards[] = {logits};
  const SampleInput input{.logits = shards, .params = &params, .mask = &mask};
  const std::pair<double, int32_t> expected[] = {{0.0, 1},  {0.49, 1}, {0.51, 0},
                                                 {0.74, 0}, {0.76, 2}, {0.999, 2}};
  for (const auto& [u, id] : expected) {
    ASSERT_OK_AND_ASSIGN(const Sampled sampled, sampler_.SampleAt(input, u));
    EXPECT_EQ(sampled.id, id) << u;
  }
}

TEST_F(SamplerTest, FrequenciesAreTheProbabilities) {
  const std::vector<double> p = {0.05, 0.4, 0.15, 0.3, 0.1};
  std::vector<float> logits;
  for (const double x : p) logits.push_back(static_cast<float>(std::log(x)) + 3.0f);
  v1::SamplingParams params = Params(1);
  params.set_seed(1234);
  constexpr int kDraws = 50'000;
  std::vector<int> seen(p.size());
  for (int64_t position = 0; position < kDraws; ++position) {
    ++seen[static_cast<size_t>(IdOf(logits, params, position))];
  }
  double chi_square = 0;
  for (size_t i = 0; i < p.size(); ++i) chi_square += std::pow(seen[i] - kDraws * p[i], 2) / (kDraws * p[i]);
  EXPECT_LT(chi_square, 18.47);  // 4 degrees of freedom, p = 0.001; the draws are fixed by the seed
}

// Other choices of one request draw other tokens, with the same frequencies.
TEST_F(SamplerTest, ChoicesAreIndependent) {
  const std::vector<float> logits = {0.0f, 0.0f};
  int seen[2][2] = {};
  for (int64_t position = 0; position < 20'000; ++position) {
    v1::SamplingParams params = Params(1);
    params.set_seed(99);
    const int32_t a = IdOf(logits, params, position);
    params.set_choice(1);
    ++seen[a][IdOf(logits, params, position)];
  }
  double chi_square = 0;
  for (const auto& row : seen) {
    for (const int n : row) chi_square += (n - 5000.0) * (n - 5000.0) / 5000.0;
  }
  EXPECT_LT(chi_square, 16.27);  // 3 degrees of freedom, p = 0.001
}

// A vocabulary of real size, nearly flat, so that draws fall deep into the order; cut into shards as ranks
// hold them (the last short, or empty).
TEST_F(SamplerTest, ShardsDoNotChangeTheTokens) {
  constexpr int64_t kVocabulary = 20'011;
  std::vector<float> logits(kVocabulary);
  for (size_t i = 0; i < logits.size(); ++i) {
    logits[i] = static_cast<float>(4.0 * UniformAt(5, 0, static_cast<int64_t>(i)));
  }
  const VocabMask mask(kVocabulary);
  std::vector<v1::SamplingParams> settings(4, Params(1));
  settings[1].set_top_p(0.9f);
  settings[2].set_top_k(50);
  settings[3].set_temperature(0);
  for (v1::SamplingParams& params : settings) {
    params.set_seed(77);
    params.set_logprobs(2);
    std::vector<Sampled> whole;
    for (const int64_t count : {1, 2, 4, 16, 20'010}) {
      const int64_t length = (kVocabulary + count - 1) / count;
      std::vector<std::span<const float>> shards;
      for (int64_t k = 0; k < count; ++k) {
        const int64_t begin = std::min(k * length, kVocabulary), end = std::min(begin + length, kVocabulary);
        shards.emplace_back(logits.data() + begin, static_cast<size_t>(end - begin));
      }
      for (int64_t position = 0; position < 10; ++position) {
        ASSERT_OK_AND_ASSIGN(
            Sampled sampled,
            sampler_.Sample({.logits = shards, .params = &params, .mask = &mask, .position = position}));
        if (count == 1) {
          whole.push_back(sampled);
          continue;
        }
        const Sampled& expected = whole[static_cast<size_t>(position)];
        EXPECT_EQ(sampled.id, expected.id);
        EXPECT_EQ(sampled.logprob, expected.logprob);
        EXPECT_EQ(sampled.top[1].id, expected.top[1].id);
      }
    }
  }
}

// The mass of the whole vocabulary is right however deep the walk goes: u in the last token's share finds it.
TEST_F(SamplerTest, DeepDrawsReachTheTail) {
  const std::vector<float> logits(30'000, 1.0f);
  const v1::SamplingParams params = Params(1);
  const VocabMask mask(30'000);
  const std::span<const float> shards[] = {logits};
  const SampleInput input{.logits = shards, .params = &params, .mask = &mask};
  for (const int32_t id : {0, 511, 512, 8191, 8192, 8193, 29'999}) {
    ASSERT_OK_AND_ASSIGN(const Sampled sampled, sampler_.SampleAt(input, (id + 0.5) / 30'000));
    EXPECT_EQ(sampled.id, id);
  }
}

TEST_F(SamplerTest, UnusedRowsAreNeverDrawnNorRead) {
  unused_ = {1, 3};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(IdOf({1.0f, 50.0f, 2.0f, nan}, Params(0)), 2);
  for (int64_t position = 0; position < 100; ++position) {
    EXPECT_EQ(IdOf({1.0f, 50.0f, 2.0f, nan}, Params(1), position) % 2, 0);
  }
}

TEST_F(SamplerTest, PenaltiesByHand) {
  counts_.AddPrompt(0);
  counts_.AddPrompt(1);
  counts_.AddOutput(2);
  counts_.AddOutput(2);
  // Repetition halves 0 (positive), doubles 1 (negative), halves 2.
  v1::SamplingParams params = Params(0);
  params.set_repetition_penalty(2);
  EXPECT_EQ(IdOf({3.0f, -1.0f, 2.5f, 1.6f}, params), 3);
  EXPECT_EQ(IdOf({3.4f, -1.0f, 2.5f, 1.6f}, params), 0);
  EXPECT_EQ(IdOf({-9.0f, -1.0f, -9.0f, -1.9f}, params), 3);
  // Presence and frequency look at the output alone: 2 loses 2 * 0.5 + 0.25.
  params = Params(0);
  params.set_presence_penalty(0.25f);
  params.set_frequency_penalty(0.5f);
  EXPECT_EQ(IdOf({1.0f, 0.0f, 2.3f, 0.0f}, params), 2);
  EXPECT_EQ(IdOf({1.0f, 0.0f, 2.2f, 0.0f}, params), 0);
}

TEST_F(SamplerTest, MinTokensHoldsStopIdsBack) {
  v1::SamplingParams params = Params(0);
  params.add_stop_ids(1);
  params.add_stop_ids(900);  // not in this vocabulary
  params.set_min_tokens(2);
  for (const auto& [generated, id] : {std::pair(0, 0), std::pair(1, 0), std::pair(2, 1)}) {
    generated_ = generated;
    EXPECT_EQ(IdOf({1.0f, 2.0f}, params), id) << generated;
  }
  // Bias cannot bring them back.
  generated_ = 0;
  (*params.mutable_logit_bias())[1] = 100;
  EXPECT_EQ(IdOf({1.0f, 2.0f}, params), 0);
}

TEST_F(SamplerTest, LogprobsAreOfTheRawLogits) {
  v1::SamplingParams params = Params(0.1f);
  params.set_logprobs(2);
  params.set_top_k(1);
  (*params.mutable_logit_bias())[2] = 50;
  // Raw probabilities 0.5, 0.3, 0.2; the bias makes 2 the choice.
  ASSERT_OK_AND_ASSIGN(const Sampled sampled, Run({std::log(5.0f), std::log(3.0f), std::log(2.0f)}, params));
  EXPECT_EQ(sampled.id, 2);
  EXPECT_NEAR(sampled.logprob, std::log(0.2), 1e-6);
  ASSERT_EQ(sampled.top.size(), 2u);
  EXPECT_EQ(sampled.top[0].id, 0);
  EXPECT_NEAR(sampled.top[0].logprob, std::log(0.5), 1e-6);
  EXPECT_EQ(sampled.top[1].id, 1);
  EXPECT_NEAR(sampled.top[1].logprob, std::log(0.3), 1e-6);
}

TEST_F(SamplerTest, LogprobsOfTheSampledTokenOnly) {
  v1::SamplingParams params = Params(0);
  params.set_logprobs(0);
  ASSERT_OK_AND_ASSIGN(const Sampled sampled, Run({0.0f, 0.0f}, params));
  EXPECT_NEAR(sampled.logprob, std::log(0.5), 1e-6);
  EXPECT_TRUE(sampled.top.empty());
}

TEST_F(SamplerTest, OnlyWhatTheGrammarAllowsIsDrawn) {
  const std::vector<float> logits = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
  const VocabMask mask(10);
  const std::span<const float> shards[] = {logits};
  v1::SamplingParams params = Params(0);
  params.set_logprobs(1);
  SampleInput input{
      .logits = shards, .params = &params, .mask = &mask, .allowed = std::string_view("\x50\x02", 2)};
  ASSERT_OK_AND_ASSIGN(const Sampled greedy, sampler_.Sample(input));
  EXPECT_EQ(greedy.id, 4);         // of 4, 6, 9
  EXPECT_EQ(greedy.top[0].id, 0);  // log-probabilities are those of all tokens
  params = Params(100);
  std::vector<int> drawn(10);
  for (input.position = 0; input.position < 300; ++input.position) {
    ASSERT_OK_AND_ASSIGN(const Sampled sampled, sampler_.Sample(input));
    ++drawn[static_cast<size_t>(sampled.id)];
  }
  for (const int id : {0, 1, 2, 3, 5, 7, 8}) EXPECT_EQ(drawn[static_cast<size_t>(id)], 0) << id;
  for (const int id : {4, 6, 9}) EXPECT_GT(drawn[static_cast<size_t>(id)], 50) << id;
  params.add_stop_ids(4);
  params.set_min_tokens(1);
  input.allowed = std::string_view("\x10\x00", 2);
  EXPECT_THAT(sampler_.Sample(input).status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("a grammar")));
  input.allowed = "\x10";
  EXPECT_THAT(sampler_.Sample(input).status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("expected 2 bytes")));
}

TEST_F(SamplerTest, Score) {
  const std::vector<float> logits = {std::log(5.0f), std::log(3.0f), std::log(2.0f)};
  const std::span<const float> shards[] = {std::span(logits).first(1), std::span(logits).last(2)};
  ASSERT_OK_AND_ASSIGN(const Sampled scored, sampler_.Score(shards, VocabMask(3), 1, 1));
  EXPECT_EQ(scored.rank, 2);
  EXPECT_NEAR(scored.logprob, std::log(0.3), 1e-6);
  ASSERT_EQ(scored.top.size(), 1u);
  EXPECT_EQ(scored.top[0].id, 0);
  EXPECT_THAT(sampler_.Score(shards, VocabMask(3), 3, 1).status(),
              StatusIs(StatusCode::kInvalidArgument, HasSubstr("found 3")));
}

TEST_F(SamplerTest, NanAndInfinityAreNamed) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    EXPECT_THAT(Run({0.0f, 1.0f, bad, 2.0f}, Params(0)).status(),
                StatusIs(StatusCode::kDataLoss, HasSubstr("token 2")));
  }
}

TEST_F(SamplerTest, AbsurdParametersStayNumbers) {
  counts_.AddOutput(0);
  v1::SamplingParams params = Params(1e-38f);
  params.set_repetition_penalty(1e-38f);
  params.set_frequency_penalty(-3e38f);
  (*params.mutable_logit_bias())[1] = 3e38f;
  (*params.mutable_logit_bias())[2] = -3e38f;
  EXPECT_EQ(IdOf({2.0f, 3e38f, -3e38f}, params), 0);
}

TEST_F(SamplerTest, WrongParametersAreNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto refused = [&](const char* name, const std::function<void(v1::SamplingParams&)>& change) {
    v1::SamplingParams params = Params(1);
    change(params);
    EXPECT_THAT(Run({0.0f, 1.0f}, params).status(), StatusIs(StatusCode::kInvalidArgument, HasSubstr(name)));
  };
  refused("temperature", [&](auto& p) { p.set_temperature(nan); });
  refused("temperature", [](auto& p) { p.set_temperature(-1); });
  refused("top_p", [](auto& p) { p.set_top_p(0); });
  refused("top_p", [](auto& p) { p.set_top_p(1.5f); });
  refused("top_k", [](auto& p) { p.set_top_k(-1); });
  refused("min_p", [&](auto& p) { p.set_min_p(nan); });
  refused("repetition_penalty", [](auto& p) { p.set_repetition_penalty(-1); });
  refused("presence_penalty", [&](auto& p) { p.set_presence_penalty(nan); });
  refused("frequency_penalty", [&](auto& p) { p.set_frequency_penalty(nan); });
  refused("logprobs", [](auto& p) { p.set_logprobs(-2); });
  refused("logit_bias", [](auto& p) { (*p.mutable_logit_bias())[2] = 1; });
  refused("allowed_ids", [](auto& p) { p.add_allowed_ids(-1); });
  refused("no token is left", [](auto& p) {
    p.add_allowed_ids(1);
    p.add_stop_ids(1);
    p.set_min_tokens(1);
  });
}

TEST_F(SamplerTest, ShardsMustBeTheVocabulary) {
  const std::vector<float> logits = {1, 2, 3};
  const std::span<const float> shards[] = {logits, logits};
  const v1::SamplingParams params = Params(0);
  const VocabMask mask(5);
  EXPECT_THAT(
      sampler_.Sample({.logits = shards, .params = &params, .mask = &mask}).status(),
      StatusIs(StatusCode::kInvalidArgument, AllOf(HasSubstr("expected 5"), HasSubstr("2 shards hold 6"))));
}

}  // namespace
}  // namespace fulger
