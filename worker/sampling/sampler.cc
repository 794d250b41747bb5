#include "worker/sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "worker/sampling/order.h"
#include "worker/sampling/philox.h"

namespace fulger {
namespace {

constexpr float kOut = -std::numeric_limits<float>::infinity();

bool Greedy(const v1::SamplingParams& params) { return params.temperature() == 0 || params.top_k() == 1; }

// The coordinator has refused all of these before; what arrives here all the same must not reach the
// arithmetic.
absl::Status Validate(const v1::SamplingParams& params) {
  const auto refuse = [](std::string_view name, std::string_view expected, double found) {
    return InvalidArgument("sampling {}: expected {}, found {}", name, expected, found);
  };
  const float temperature = params.temperature();
  if (!(temperature >= 0) || !std::isfinite(temperature)) {
    return refuse("temperature", "a number from 0 on", temperature);
  }
  if (params.top_k() < 0) return refuse("top_k", "0 or more", params.top_k());
  if (!Greedy(params)) {
    if (!(params.top_p() > 0 && params.top_p() <= 1)) return refuse("top_p", "(0, 1]", params.top_p());
    if (!(params.min_p() >= 0 && params.min_p() <= 1)) return refuse("min_p", "[0, 1]", params.min_p());
  }
  if (!(params.repetition_penalty() >= 0) || !std::isfinite(params.repetition_penalty())) {
    return refuse("repetition_penalty", "a number above 0", params.repetition_penalty());
  }
  if (!std::isfinite(params.presence_penalty())) {
    return refuse("presence_penalty", "a number", params.presence_penalty());
  }
  if (!std::isfinite(params.frequency_penalty())) {
    return refuse("frequency_penalty", "a number", params.frequency_penalty());
  }
  if (params.logprobs() < -1) return refuse("logprobs", "-1 or more", params.logprobs());
  return absl::OkStatus();
}

bool Finite(float x) { return (std::bit_cast<uint32_t>(x) & 0x7f800000u) != 0x7f800000u; }

// Absurd parameters overflow; a token must not drop out, nor the row turn into NaN, because of them.
float Bounded(float x) {
  constexpr float kMost = std::numeric_limits<float>::max();
  return std::isnan(x) ? 0.0f : std::clamp(x, -kMost, kMost);
}

// Whole runs at once, without a branch per value: this reads every logit of every row.
bool AllFinite(std::span<const float> values) {
  uint32_t bad = 0;
  for (const float v : values) bad |= (std::bit_cast<uint32_t>(v) & 0x7f800000u) == 0x7f800000u ? 1u : 0u;
  return bad == 0;
}

}  // namespace

absl::StatusOr<Sampled> Sampler::Sample(const SampleInput& input) {
  const v1::SamplingParams& params = *input.params;
  return SampleAt(input, UniformAt(params.seed(), params.choice(), input.position));
}

absl::StatusOr<Sampled> Sampler::SampleAt(const SampleInput& input, double u) {
  const v1::SamplingParams& params = *input.params;
  RETURN_IF_ERROR(Validate(params));
  RETURN_IF_ERROR(Load(input.logits, *input.mask));
  RETURN_IF_ERROR(Adjust(input));
  Sampled sampled;
  sampled.id = Greedy(params) ? FirstOfOrder(logits_) : Draw(params, u);
  if (sampled.id < 0) {
    return InvalidArgument(
        "sampling: no token is left ({} allowed ids, {} stop ids held back by min_tokens {}{})",
        params.allowed_ids_size(), params.stop_ids_size(), params.min_tokens(),
        input.allowed.empty() ? "" : ", and a grammar");
  }
  if (params.logprobs() >= 0) RETURN_IF_ERROR(AddLogprobs(params.logprobs(), sampled));
  return sampled;
}

absl::StatusOr<Sampled> Sampler::Score(LogitShards logits, const VocabMask& mask, int32_t id, int32_t top) {
  RETURN_IF_ERROR(Load(logits, mask));
  Sampled scored;
  scored.id = id;
  RETURN_IF_ERROR(AddLogprobs(top, scored));
  const float own = raw_[static_cast<size_t>(id)];
  scored.rank = 1 + static_cast<int32_t>(std::ranges::count_if(raw_, [own](float x) { return x > own; }));
  return scored;
}

absl::Status Sampler::Load(LogitShards logits, const VocabMask& mask) {
  raw_.clear();
  for (const std::span<const float> shard : logits) raw_.insert(raw_.end(), shard.begin(), shard.end());
  if (static_cast<int64_t>(raw_.size()) != mask.vocabulary()) {
    return InvalidArgument("logits: expected {} values, {} shards hold {}", mask.vocabulary(), logits.size(),
                           raw_.size());
  }
  int64_t unused_from = 0;
  for (const VocabMask::Run& run : mask.runs()) {
    std::fill(raw_.begin() + unused_from, raw_.begin() + run.begin, kOut);
    unused_from = run.end;
    const auto begin = raw_.begin() + run.begin, end = raw_.begin() + run.end;
    if (AllFinite({begin, end})) continue;
    const auto bad = std::find_if_not(begin, end, Finite);
    return DataLoss("logits: the value of token {} is {}", bad - raw_.begin(), *bad);
  }
  std::fill(raw_.begin() + unused_from, raw_.end(), kOut);
  return absl::OkStatus();
}

absl::Status Sampler::AddLogprobs(int32_t top, Sampled& sampled) {
  if (sampled.id < 0 || sampled.id >= static_cast<int64_t>(raw_.size())) {
    return InvalidArgument("logprobs: expected an id in [0, {}), found {}", raw_.size(), sampled.id);
  }
  const std::vector<Ranked> head = HeadOfOrder(raw_, std::max(top, 1));
  if (head.empty()) return InvalidArgument("logprobs: the vocabulary has no usable token");
  const float largest = head.front().logit;
  weights_.resize(raw_.size());
  const double sum = Weights(raw_, largest, /*temperature=*/1.0f, /*min_weight=*/0.0f, weights_);
  const double log_sum = static_cast<double>(largest) + std::log(sum);
  const auto logprob = [&](float logit) { return static_cast<float>(static_cast<double>(logit) - log_sum); };
  sampled.logprob = logprob(raw_[static_cast<size_t>(sampled.id)]);
  for (size_t i = 0; i < head.size() && i < static_cast<size_t>(std::max(top, 0)); ++i) {
    sampled.top.push_back({head[i].id, logprob(head[i].logit)});
  }
  return absl::OkStatus();
}

absl::Status Sampler::Adjust(const SampleInput& input) {
  const v1::SamplingParams& params = *input.params;
  RETURN_IF_ERROR(Restrict(input));
  for (const auto& [id, bias] : params.logit_bias()) {
    if (id < 0 || id >= input.mask->vocabulary() || !std::isfinite(bias)) {
      return InvalidArgument("sampling logit_bias: expected an id in [0, {}) and a number, found {}: {}",
                             input.mask->vocabulary(), id, bias);
    }
    float& logit = logits_[static_cast<size_t>(id)];
    if (logit != kOut) logit = Bounded(logit + bias);
  }
  if (!TokenCounts::Needed(params)) return absl::OkStatus();
  if (input.counts == nullptr) return Internal("sampling: penalties need the sequence's token counts");
  Penalise(input);
  return absl::OkStatus();
}

absl::Status Sampler::Restrict(const SampleInput& input) {
  const v1::SamplingParams& params = *input.params;
  if (params.allowed_ids().empty()) {
    logits_ = raw_;
  } else {
    logits_.assign(raw_.size(), kOut);
    for (const int32_t id : params.allowed_ids()) {
      if (id < 0 || id >= input.mask->vocabulary()) {
        return InvalidArgument("sampling allowed_ids: expected ids in [0, {}), found {}",
                               input.mask->vocabulary(), id);
      }
      logits_[static_cast<size_t>(id)] = raw_[static_cast<size_t>(id)];
    }
  }
  if (!input.allowed.empty()) {
    if (input.allowed.size() != (logits_.size() + 7) / 8) {
      return InvalidArgument("sampling mask: expected {} bytes, found {}", (logits_.size() + 7) / 8,
                             input.allowed.size());
    }
    for (size_t id = 0; id < logits_.size(); ++id) {
      if ((static_cast<unsigned char>(input.allowed[id / 8]) >> (id % 8) & 1U) == 0) logits_[id] = kOut;
    }
  }
  if (input.generated < params.min_tokens()) {
    for (const int32_t id : params.stop_ids()) {
      // A stop id that the model does not have can never be drawn.
      if (id >= 0 && id < input.mask->vocabulary()) logits_[static_cast<size_t>(id)] = kOut;
    }
  }
  return absl::OkStatus();
}

void Sampler::Penalise(const SampleInput& input) {
  const v1::SamplingParams& params = *input.params;
  const float repetition = params.repetition_penalty() == 0 ? 1.0f : params.repetition_penalty();
  for (const auto& [id, count] : input.counts->entries()) {
    if (id < 0 || id >= input.mask->vocabulary()) continue;  // placeholders of pictures have no logit
    float& logit = logits_[static_cast<size_t>(id)];
    if (logit == kOut) continue;
    logit = logit > 0 ? logit / repetition : logit * repetition;
    if (count.in_output > 0) {
      logit -= params.frequency_penalty() * static_cast<float>(count.in_output);
      logit -= params.presence_penalty();
    }
    logit = Bounded(logit);
  }
}

int32_t Sampler::Draw(const v1::SamplingParams& params, double u) {
  const int32_t first = FirstOfOrder(logits_);
  if (first < 0) return -1;
  const float largest = logits_[static_cast<size_t>(first)];
  if (params.top_k() > 0 && params.top_k() < static_cast<int64_t>(logits_.size())) {
    return DrawFromHead(params, largest, u);
  }
  mass_.Assign(logits_, largest, params.temperature(), params.min_p());
  if (params.top_p() == 1) return mass_.Find(u * mass_.total(), /*reach=*/false).token.id;
  const MassAlongOrder::Place edge =
      mass_.Find(static_cast<double>(params.top_p()) * mass_.total(), /*reach=*/true);
  const Ranked drawn = mass_.Find(u * edge.mass, /*reach=*/false).token;
  return Before(edge.token, drawn) ? edge.token.id : drawn.id;  // u * mass may round up to the mass
}

// top_k: the whole set is at hand, sorted.
int32_t Sampler::DrawFromHead(const v1::SamplingParams& params, float largest, double u) const {
  const std::vector<Ranked> head = HeadOfOrder(logits_, params.top_k());
  std::vector<float> sorted(head.size()), weights(head.size());
  for (size_t i = 0; i < head.size(); ++i) sorted[i] = head[i].logit;
  const double total = Weights(sorted, largest, params.temperature(), params.min_p(), weights);
  const double edge = static_cast<double>(params.top_p()) * total;
  std::vector<double> cumulative;
  double mass = 0;
  for (const float weight : weights) {
    if (weight == 0 || (params.top_p() < 1 && mass >= edge)) break;
    mass += static_cast<double>(weight);
    cumulative.push_back(mass);
  }
  const auto drawn = std::upper_bound(cumulative.begin(), cumulative.end(), u * mass);
  // u * mass may round up to the mass.
  return head[static_cast<size_t>(std::min(drawn - cumulative.begin(), std::ssize(cumulative) - 1))].id;
}

}  // namespace fulger
