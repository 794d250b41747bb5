#include "worker/exec/output_head.h"

#include <algorithm>
#include <utility>

#include "model/cost/rank_memory.h"
#include "worker/sampling/finish.h"

namespace fulger {

OutputHead::OutputHead(const ModelConfig& config, const Plan& plan, const RankPlan& rank,
                       WeightMatrix lm_head, std::span<const int32_t> masked)
    : vocab_(config.text.vocab),
      width_(LogitShardWidth(config, plan.layout)),
      shards_(plan.layout.tp),
      lm_head_(lm_head),
      mask_(config.text.vocab, masked) {
  FULGER_CHECK(lm_head.w.dim(0) == rank.vocab.size());
}

absl::StatusOr<std::vector<float>> OutputHead::GatherLogits(ExecContext& ctx, const TensorView& y,
                                                            const std::vector<int32_t>& rows) {
  const int64_t n = static_cast<int64_t>(rows.size());
  ctx.activity.Set("lm_head");
  ASSIGN_OR_RETURN(MutTensorView index, ctx.arena.Allocate(DType::kI32, {n}));
  ASSIGN_OR_RETURN(MutTensorView last, ctx.arena.Allocate(DType::kF32, {n, y.dim(1)}));
  ASSIGN_OR_RETURN(MutTensorView local, ctx.arena.Allocate(DType::kF32, {n, width_}));
  RETURN_IF_ERROR(
      ctx.device.CopyToDevice(ctx.stream, rows.data(), index.mut_raw(), static_cast<size_t>(index.bytes())));
  RETURN_IF_ERROR(ctx.ops.GatherRows(ctx.stream, {.src = y, .index = index, .fill = {}, .out = last}));
  RETURN_IF_ERROR(ctx.device.Zero(ctx.stream, local.mut_raw(), static_cast<size_t>(local.bytes())));
  RETURN_IF_ERROR(ctx.ops.Linear(ctx.stream, {.x = last,
                                              .w = lm_head_.w,
                                              .w_scale = lm_head_.scale,
                                              .bias = {},
                                              .out = local.Slice(1, 0, lm_head_.w.dim(0))}));
  MutTensorView all = local;
  if (shards_ > 1) {
    ctx.activity.Set("gathering logits");
    ASSIGN_OR_RETURN(all, ctx.arena.Allocate(DType::kF32, {shards_, n, width_}));
    RETURN_IF_ERROR(ctx.stage.AllGather(ctx.stream, local, all));
  }
  std::vector<float> host(static_cast<size_t>(shards_ * n * width_));
  RETURN_IF_ERROR(ctx.device.CopyToHost(ctx.stream, all.raw(), host.data(), host.size() * sizeof(float)));
  RETURN_IF_ERROR(ctx.stream.Synchronize());
  return host;
}

void OutputHead::AddMasks(const v1::StepPlan& plan) {
  for (const v1::TokenMask& mask : plan.masks()) token_masks_[mask.id()] = mask.bits();
}

void OutputHead::RetireMasks(const v1::StepPlan& plan) {
  for (const uint64_t id : plan.retired_masks()) token_masks_.erase(id);
}

// A sequence with a bad row anywhere in its chunk ends now: its state and keys are poisoned.
void OutputHead::EndBadRows(const Batch& batch, const std::vector<int32_t>& status, v1::StepResult& result) {
  for (const BatchSequence& s : batch.sequences()) {
    if (s.sequence->ended) continue;
    // The earliest part that went bad on any row: attention spreads it over the others, where a later part is
    // noted.
    int32_t first = kHealthy;
    for (int64_t r = s.row; r < s.row + s.count; ++r) {
      const int32_t tag = status[static_cast<size_t>(r)];
      if (tag >= 0 && (first == kHealthy || tag < first)) first = tag;
    }
    if (first == kHealthy) continue;
    v1::SequenceError* error = result.add_errors();
    error->set_sequence(s.id);
    error->set_message(DescribeHealth(first));
    s.sequence->ended = true;
  }
}

absl::StatusOr<std::vector<int32_t>> OutputHead::Sample(ExecContext& ctx, const Batch& batch,
                                                        const TensorView& y,
                                                        const std::vector<int32_t>& status,
                                                        v1::StepResult& result) {
  EndBadRows(batch, status, result);
  RETURN_IF_ERROR(ScorePrompts(ctx, batch, y, result));
  const std::vector<const BatchSequence*> sampled = batch.Sampled();
  std::vector<int32_t> feedback;
  if (sampled.empty()) return feedback;

  std::vector<int32_t> rows;
  for (const BatchSequence* s : sampled) rows.push_back(static_cast<int32_t>(s->row + s->count - 1));
  ASSIGN_OR_RETURN(const std::vector<float> logits, GatherLogits(ctx, y, rows));

  ctx.activity.Set("sampling");
  const size_t n = sampled.size();
  for (size_t i = 0; i < n; ++i) {
    if (sampled[i]->sequence->ended) {
      feedback.push_back(-1);
      continue;
    }
    ASSIGN_OR_RETURN(const int32_t fed_back, DrawOne(*sampled[i], Shards(logits, i, n), result));
    feedback.push_back(fed_back);
  }
  return feedback;
}

std::vector<std::span<const float>> OutputHead::Shards(const std::vector<float>& logits, size_t i,
                                                       size_t n) const {
  std::vector<std::span<const float>> shards;
  for (int64_t k = 0; k < shards_; ++k) {
    const int64_t held = std::clamp<int64_t>(vocab_ - k * width_, 0, width_);
    const size_t offset = (static_cast<size_t>(k) * n + i) * static_cast<size_t>(width_);
    shards.emplace_back(logits.data() + offset, static_cast<size_t>(held));
  }
  return shards;
}

absl::Status OutputHead::Observe(ExecContext& ctx, const Batch& batch, const TensorView& y,
                                 LogitsObserver& observer) {
  for (const BatchSequence& s : batch.sequences()) {
    for (int64_t first = 0; first < s.count; first += kScoredRows) {
      const int64_t n = std::min(kScoredRows, s.count - first);
      std::vector<int32_t> rows;
      for (int64_t i = 0; i < n; ++i) rows.push_back(static_cast<int32_t>(s.row + first + i));
      const size_t mark = ctx.arena.used();
      ASSIGN_OR_RETURN(const std::vector<float> logits, GatherLogits(ctx, y, rows));
      ctx.arena.Rewind(mark);
      if (ctx.stage.rank() != 0) continue;
      for (int64_t i = 0; i < n; ++i) {
        std::vector<float> row;
        for (const auto& shard : Shards(logits, static_cast<size_t>(i), static_cast<size_t>(n))) {
          row.insert(row.end(), shard.begin(), shard.end());
        }
        observer.OnLogits(s.id, s.position + first + i, row);
      }
    }
  }
  return absl::OkStatus();
}

// The logits at a position are those of the token behind it. lm_head runs over these rows alone, a few at a
// time. Which rows are gathered follows from the plan, so that all ranks of the stage take part.
absl::Status OutputHead::ScorePrompts(ExecContext& ctx, const Batch& batch, const TensorView& y,
                                      v1::StepResult& result) {
  for (const BatchSequence& s : batch.sequences()) {
    if (s.sequence->sampling.prompt_logprobs() <= 0) continue;
    const int64_t count = std::min(s.count, s.sequence->prompt_count - 1 - s.position);
    v1::PromptScores* scores = nullptr;
    for (int64_t first = 0; first < count; first += kScoredRows) {
      const int64_t n = std::min(kScoredRows, count - first);
      std::vector<int32_t> rows;
      for (int64_t i = 0; i < n; ++i) rows.push_back(static_cast<int32_t>(s.row + first + i));
      const size_t mark = ctx.arena.used();
      ASSIGN_OR_RETURN(const std::vector<float> logits, GatherLogits(ctx, y, rows));
      ctx.arena.Rewind(mark);
      if (ctx.stage.rank() != 0) continue;  // its result is the one that is sent
      ctx.activity.Set("scoring the prompt");
      if (scores == nullptr) {
        scores = result.add_prompt_scores();
        scores->set_sequence(s.id);
        scores->set_position(s.position + 1);
      }
      for (int64_t i = 0; i < n && !s.sequence->ended; ++i) {
        ScoreRow(s, s.position + first + i + 1,
                 Shards(logits, static_cast<size_t>(i), static_cast<size_t>(n)), scores, result);
      }
    }
  }
  return absl::OkStatus();
}

void OutputHead::ScoreRow(const BatchSequence& s, int64_t position,
                          const std::vector<std::span<const float>>& shards, v1::PromptScores* scores,
                          v1::StepResult& result) {
  const int32_t id = s.sequence->ids[static_cast<size_t>(position)];
  const auto scored = sampler_.Score(shards, mask_, id, s.sequence->sampling.prompt_logprobs() - 1);
  if (!scored.ok()) {
    // `ended` stays: the other ranks do not know, and draw a token that the coordinator will drop.
    v1::SequenceError* error = result.add_errors();
    error->set_sequence(s.id);
    error->set_message("lm_head: " + Message(scored.status()));
    return;
  }
  v1::ScoredToken* token = scores->add_tokens();
  token->set_id(id);
  token->set_logprob(scored->logprob);
  token->set_rank(scored->rank);
  for (const auto& [top_id, logprob] : scored->top) {
    v1::TokenLogprob* top = token->add_top();
    top->set_id(top_id);
    top->set_logprob(logprob);
  }
}

absl::StatusOr<int32_t> OutputHead::DrawOne(const BatchSequence& s,
                                            const std::vector<std::span<const float>>& shards,
                                            v1::StepResult& result) {
  RankSequence& sequence = *s.sequence;
  const int64_t position = s.position + s.count;
  std::string_view allowed;
  if (s.mask != 0) {
    const auto mask = token_masks_.find(s.mask);
    if (mask == token_masks_.end()) {
      return Internal("sequence {} names mask {}, which was never announced or is retired", s.id, s.mask);
    }
    allowed = mask->second;
  }
  const auto drawn = sampler_.Sample({.logits = shards,
                                      .params = &sequence.sampling,
                                      .counts = &sequence.counts,
                                      .mask = &mask_,
                                      .allowed = allowed,
                                      .position = position,
                                      .generated = sequence.generated});
  if (!drawn.ok()) {
    v1::SequenceError* error = result.add_errors();
    error->set_sequence(s.id);
    error->set_message("lm_head: " + Message(drawn.status()));
    sequence.ended = true;
    return -1;
  }
  if (TokenCounts::Needed(sequence.sampling)) sequence.counts.AddOutput(drawn->id);
  ++sequence.generated;
  const v1::SampledToken::Finish finish = CheckFinish(sequence.sampling, drawn->id, sequence.generated);

  v1::SampledToken* token = result.add_tokens();
  token->set_sequence(s.id);
  token->set_position(position);
  token->set_id(drawn->id);
  token->set_finish(finish);
  token->set_logprob(drawn->logprob);
  for (const auto& [id, logprob] : drawn->top) {
    v1::TokenLogprob* top = token->add_top();
    top->set_id(id);
    top->set_logprob(logprob);
  }
  sequence.ended = finish != v1::SampledToken::NOT_FINISHED;
  return sequence.ended ? -1 : drawn->id;
}

}  // namespace fulger
