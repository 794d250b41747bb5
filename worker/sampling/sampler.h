// From one row of logits to one token. Stateless: the result is a function of the arguments alone, so every
// rank of the last stage draws the same token, in every layout, batch and rebuild.
//
// Order of the steps (that of vLLM's v1/sample/sampler.py):
//   1. log-probabilities are those of the raw logits: log-softmax over the usable vocabulary, before all
//   below
//   2. allowed_ids and the mask of a grammar; stop ids are left out while fewer than min_tokens are
//   generated; logit_bias is added
//   3. penalties: repetition (tokens of prompt and output: positive logits divided, others multiplied), then
//      frequency * count and presence (output only) subtracted
//   4. temperature 0 or top_k 1: the first of the order (logit descending, id ascending); done
//   5. temperature; min_p (at least min_p times the largest probability); top_k (the first k of the order: a
//      tie at the edge goes to the lower ids); top_p (of what is left, the shortest run of the order whose
//      mass reaches top_p, at least one)
//   6. of the tokens left, in order, the first whose cumulative mass exceeds u times the whole mass;
//      u = UniformAt(seed, choice, position)
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "fulger/v1/step.pb.h"
#include "worker/sampling/order.h"
#include "worker/sampling/token_counts.h"
#include "worker/sampling/vocab_mask.h"

namespace fulger {

// Vocabulary shards in order, each a run of float32 logits on the host; lengths may differ, and be 0.
// Together they hold mask.vocabulary() values.
using LogitShards = std::span<const std::span<const float>>;

struct Logprob {
  int32_t id = 0;
  float logprob = 0;
};

struct SampleInput {
  LogitShards logits;
  const v1::SamplingParams* params = nullptr;
  const TokenCounts* counts = nullptr;  // may be null where TokenCounts::Needed(params) is false
  const VocabMask* mask = nullptr;
  std::string_view allowed{};  // v1.TokenMask.bits; empty: all
  int64_t position = 0;        // in the sequence, of the token to draw
  int64_t generated = 0;       // output tokens before it
};

struct Sampled {
  int32_t id = 0;
  float logprob = 0;         // 0 when params.logprobs is -1
  std::vector<Logprob> top;  // the params.logprobs largest, (logprob descending, id ascending)
  int32_t rank = 0;          // by Score: one more than the usable tokens that are likelier
};

// Keeps scratch memory of about five rows. One thread at a time.
class Sampler {
 public:
  // INVALID_ARGUMENT: a parameter out of range, shards that are not the vocabulary, or nothing left to draw
  // from. DATA_LOSS: a usable logit is NaN or infinite; the message names the id.
  absl::StatusOr<Sampled> Sample(const SampleInput& input);
  // The same with u given: in [0, 1).
  absl::StatusOr<Sampled> SampleAt(const SampleInput& input, double u);

  // The raw log-probability and the rank of `id`, and the `top` largest (prompt log-probabilities, echo).
  absl::StatusOr<Sampled> Score(LogitShards logits, const VocabMask& mask, int32_t id, int32_t top);

 private:
  // Usable logits, contiguous by id; all others -infinity. Fails on NaN and infinity.
  absl::Status Load(LogitShards logits, const VocabMask& mask);
  absl::Status AddLogprobs(int32_t top, Sampled& sampled);
  absl::Status Adjust(const SampleInput& input);
  absl::Status Restrict(const SampleInput& input);
  void Penalise(const SampleInput& input);
  int32_t Draw(const v1::SamplingParams& params, double u);
  int32_t DrawFromHead(const v1::SamplingParams& params, float largest, double u) const;

  std::vector<float> raw_;      // as loaded
  std::vector<float> logits_;   // after steps 2 and 3
  std::vector<float> weights_;  // exp(raw - largest), for log-probabilities
  MassAlongOrder mass_;
};

}  // namespace fulger
