// Against transformers' logits processors: tests/golden/sampling/README.md.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "worker/sampling/sampler.h"

namespace fulger {
namespace {

using nlohmann::json;

v1::SamplingParams ParamsOf(const json& p) {
  v1::SamplingParams params;
  params.set_temperature(p.at("temperature"));
  params.set_top_p(p.value("top_p", 1.0f));
  params.set_top_k(p.value("top_k", 0));
  params.set_min_p(p.value("min_p", 0.0f));
  params.set_repetition_penalty(p.value("repetition_penalty", 1.0f));
  params.set_presence_penalty(p.value("presence_penalty", 0.0f));
  params.set_frequency_penalty(p.value("frequency_penalty", 0.0f));
  params.set_min_tokens(p.value("min_tokens", 0));
  params.set_max_tokens(1000);
  params.set_logprobs(3);
  for (const int id : p.value("stop_ids", std::vector<int>())) params.add_stop_ids(id);
  for (const int id : p.value("allowed_ids", std::vector<int>())) params.add_allowed_ids(id);
  if (p.contains("logit_bias")) {
    for (const auto& [id, bias] : p["logit_bias"].items())
      (*params.mutable_logit_bias())[std::stoi(id)] = bias;
  }
  return params;
}

TEST(SamplerGoldenTest, DrawsFromTheDistributionOfTransformers) {
  std::ifstream file("tests/golden/sampling/distributions.json");
  ASSERT_TRUE(file) << "run from the repository root";
  const json cases = json::parse(file);
  ASSERT_GE(cases.size(), 20u);
  Sampler sampler;
  for (const json& c : cases) {
    SCOPED_TRACE(c.at("params").dump());
    const v1::SamplingParams params = ParamsOf(c.at("params"));
    const std::vector<float> logits = c.at("logits");
    const std::vector<int32_t> unused = c.at("unused");
    const VocabMask mask(static_cast<int64_t>(logits.size()), unused);
    TokenCounts counts;
    for (const int32_t id : c.at("prompt")) counts.AddPrompt(id);
    for (const int32_t id : c.at("output")) counts.AddOutput(id);
    const std::span<const float> shards[] = {logits};
    const SampleInput input{.logits = shards,
                            .params = &params,
                            .counts = &counts,
                            .mask = &mask,
                            .position = 16,
                            .generated = static_cast<int64_t>(c.at("output").size())};
    double before = 0;
    for (const json& entry : c.at("left")) {
      const int32_t id = entry[0];
      const double probability = entry[1];
      // Just inside both edges of this token's share, where it is wide enough to have an inside.
      const double margin = 3e-6;
      for (const double u : {before + margin, before + probability / 2, before + probability - margin}) {
        if (probability < 3 * margin) continue;
        ASSERT_OK_AND_ASSIGN(const Sampled sampled, sampler.SampleAt(input, u));
        EXPECT_EQ(sampled.id, id) << "u " << u;
        EXPECT_NEAR(sampled.logprob, c.at("logprobs")[static_cast<size_t>(id)].get<double>(), 1e-5);
      }
      before += probability;
    }
    EXPECT_NEAR(before, 1.0, 1e-9);
    // The last u there is never leaves the set, and finds its end unless that is thinner than a double can
    // tell.
    ASSERT_OK_AND_ASSIGN(const Sampled last, sampler.SampleAt(input, 1.0 - 0x1p-53));
    const auto& left = c.at("left");
    const auto in_set =
        std::find_if(left.begin(), left.end(), [&](const json& e) { return e[0] == last.id; });
    ASSERT_NE(in_set, left.end());
    if (left.back()[1] > 1e-6) {
      EXPECT_EQ(last.id, left.back()[0].get<int32_t>());
    }
    // The three largest raw log-probabilities, in order.
    std::vector<size_t> ids;
    for (size_t i = 0; i < logits.size(); ++i) {
      if (!c.at("logprobs")[i].is_null()) ids.push_back(i);
    }
    std::sort(ids.begin(), ids.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
    ASSERT_EQ(last.top.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(last.top[i].id, static_cast<int32_t>(ids[i]));
      EXPECT_NEAR(last.top[i].logprob, c.at("logprobs")[ids[i]].get<double>(), 1e-5);
    }
  }
}

}  // namespace
}  // namespace fulger
