#include "worker/exec/stage_runner.h"

#include <algorithm>
#include <chrono>
#include <numeric>
#include <utility>

#include "base/log.h"
#include "model/cost/rank_memory.h"

namespace fulger {
namespace {

// Feedback that no row asked for is taken in after this many steps, so that it cannot pile up.
constexpr size_t kMaxPendingFeedback = 64;

class WaitTimer {
 public:
  explicit WaitTimer(double* seconds) : seconds_(seconds) {}
  ~WaitTimer() {
    *seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  double* seconds_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

absl::StatusOr<std::unique_ptr<RankRunner>> StageRunner::Make(const RankSetup& setup) {
  auto runner = std::unique_ptr<StageRunner>(new StageRunner(setup));
  RETURN_IF_ERROR(runner->Initialise());
  return runner;
}

ExecContext StageRunner::Context() {
  return {.device = setup_.device,
          .stream = setup_.device.stream(),
          .ops = setup_.device.ops(),
          .arena = *arena_,
          .stage = *stage_,
          .activity = setup_.activity,
          .expert_rows = timing_.expert_rows.empty() ? nullptr : &timing_.expert_rows};
}

absl::Status StageRunner::Initialise() {
  const Layout& layout = setup_.plan.layout;
  setup_.activity.Set("connecting ranks");
  std::vector<int> members(static_cast<size_t>(layout.tp));
  std::iota(members.begin(), members.end(), rank_.stage * layout.tp);
  ASSIGN_OR_RETURN(stage_, setup_.fabric.Group(members, fmt::format("stage.{}", rank_.stage)));
  ASSIGN_OR_RETURN(links_, ConnectLinks(setup_.plan, setup_.rank, setup_.fabric));

  setup_.activity.Set("allocating caches");
  const RunnerOptions& options = setup_.options;
  ASSIGN_OR_RETURN(kv_, KvCache::Make(setup_.config, rank_, setup_.device, options.blocks, options.block_size,
                                      options.kv_dtype));
  ASSIGN_OR_RETURN(states_, LightningStates::Make(setup_.config, rank_, setup_.device, options.slots));
  keeper_.emplace(&setup_.device, &*kv_, &*states_, setup_.rank);
  ASSIGN_OR_RETURN(arena_, Arena::Make(setup_.device, static_cast<size_t>(ArenaBytes(
                                                          setup_.config, layout, rank_, options.sizes()))));

  const WeightLookup weights(setup_.table, setup_.weights);
  ASSIGN_OR_RETURN(stack_, DecoderStack::Make(setup_.config, rank_, weights, *kv_, *states_, setup_.device));
  if (rank_.first_stage) {
    ASSIGN_OR_RETURN(embedding_, weights.Text(-1, "embed_tokens.weight"));
  }
  RETURN_IF_ERROR(InitialiseHead(weights));
  if (rank_.holds_vision) {
    ASSIGN_OR_RETURN(tower_, VisionTower::Make(setup_.config, weights, *setup_.processor));
    features_.emplace(setup_.config, *setup_.processor, &*tower_);
  }
  setup_.activity.Set("idle");
  return absl::OkStatus();
}

// Unused vocabulary rows are those whose embedding or lm_head row is all zero. The embedding lies on the
// first stage, sampling on the last: the marks travel over a link and are gathered over the last stage.
absl::Status StageRunner::InitialiseHead(const WeightLookup& weights) {
  const int64_t width = LogitShardWidth(setup_.config, setup_.plan.layout);
  std::vector<int32_t> marks(static_cast<size_t>(width), 0);
  const TensorView marks_view(marks.data(), DType::kI32, {width});
  Stream& stream = setup_.device.stream();
  if (rank_.first_stage) {
    ASSIGN_OR_RETURN(marks, VocabularyMask(embedding_));
    if (!rank_.last_stage)
      return links_.vocabulary->Send(stream, TensorView(marks.data(), DType::kI32, {width}));
  }
  if (!rank_.last_stage) return absl::OkStatus();

  if (!rank_.first_stage) {
    RETURN_IF_ERROR(links_.vocabulary->Recv(stream, MutTensorView(marks.data(), DType::kI32, {width})));
  }
  ASSIGN_OR_RETURN(const WeightMatrix lm_head, weights.Matrix(-1, "lm_head.weight"));
  ASSIGN_OR_RETURN(const std::vector<int32_t> zero_rows, VocabularyMask(lm_head.w));
  for (size_t i = 0; i < marks.size(); ++i) marks[i] |= zero_rows[i];
  std::vector<int32_t> all(static_cast<size_t>(width * stage_->size()));
  RETURN_IF_ERROR(stage_->AllGather(stream, TensorView(marks.data(), DType::kI32, {width}),
                                    MutTensorView(all.data(), DType::kI32, {width * stage_->size()})));
  all.resize(static_cast<size_t>(setup_.config.text.vocab));
  std::vector<int32_t> unused;
  for (size_t id = 0; id < all.size(); ++id) {
    if (all[id] != 0) unused.push_back(static_cast<int32_t>(id));
  }
  if (unused.size() == all.size()) {
    return FailedPrecondition(
        "every vocabulary row of embed_tokens or lm_head is zero: this checkpoint holds no weights");
  }
  if (!unused.empty() && rank_.index == 0) {
    LogInfo("{} unused vocabulary rows (all zero) are never drawn", unused.size());
  }
  head_.emplace(setup_.config, setup_.plan, rank_, lm_head, unused);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int32_t>> StageRunner::VocabularyMask(const TensorView& rows) {
  std::vector<int32_t> marks(static_cast<size_t>(LogitShardWidth(setup_.config, setup_.plan.layout)), 0);
  const size_t row_bytes = static_cast<size_t>(rows.dim(1)) * ByteSize(rows.dtype());
  const int64_t batch = std::max<int64_t>(1, (int64_t{8} << 20) / static_cast<int64_t>(row_bytes));
  std::vector<char> host(static_cast<size_t>(batch) * row_bytes);
  for (int64_t begin = 0; begin < rows.dim(0); begin += batch) {
    const int64_t count = std::min(batch, rows.dim(0) - begin);
    RETURN_IF_ERROR(setup_.device.CopyToHost(setup_.device.stream(), rows.Rows(begin, count).raw(),
                                             host.data(), static_cast<size_t>(count) * row_bytes));
    RETURN_IF_ERROR(setup_.device.stream().Synchronize());
    for (int64_t r = 0; r < count; ++r) {
      const char* row = host.data() + static_cast<size_t>(r) * row_bytes;
      const bool zero = std::all_of(row, row + row_bytes, [](char c) { return c == 0; });
      marks[static_cast<size_t>(begin + r)] = zero ? 1 : 0;
    }
  }
  return marks;
}

absl::StatusOr<v1::StepResult> StageRunner::Run(const v1::StepPlan& plan) {
  const auto start = std::chrono::steady_clock::now();
  timing_ = {};
  if (rank_.index == 0 && setup_.device.host_accessible()) {
    timing_.expert_rows.resize(static_cast<size_t>(setup_.config.text.experts));
  }
  if (plan.step() != last_step_ + 1) {
    return Internal("expected step {}, the plan is for step {}", last_step_ + 1, plan.step());
  }
  last_step_ = plan.step();
  RETURN_IF_ERROR(RunOperations(plan));
  RETURN_IF_ERROR(sequences_.Apply(plan));
  RETURN_IF_ERROR(RestoreStates(plan));
  if (head_.has_value()) head_->AddMasks(plan);
  ASSIGN_OR_RETURN(Batch batch,
                   Batch::Make(plan, sequences_, setup_.options.max_step_tokens, setup_.options.block_size));
  RankSequence probe{.ids = {0}};
  if (plan.probe()) {
    if (batch.tokens() > 0) return Internal("step {}: a probe with {} tokens", plan.step(), batch.tokens());
    batch = Batch::OfProbe(&probe);
  }
  v1::StepResult result;
  if (batch.tokens() > 0) {
    ASSIGN_OR_RETURN(result, RunRows(plan, batch));
  }
  if (plan.probe()) result.clear_tokens();
  result.set_replica(plan.replica());
  result.set_epoch(plan.epoch());
  result.set_step(plan.step());
  sequences_.Retire(plan);
  if (head_.has_value()) head_->RetireMasks(plan);
  setup_.activity.Set("idle");
  timing_.total_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

absl::Status StageRunner::RunOperations(const v1::StepPlan& plan) {
  for (const v1::Operation& operation : plan.operations()) {
    switch (operation.kind()) {
      case v1::Operation::ZERO_SLOT:
        RETURN_IF_ERROR(states_->ZeroSlot(setup_.device, operation.to()));
        break;
      case v1::Operation::COPY_SLOT:
        RETURN_IF_ERROR(states_->CopySlot(setup_.device, operation.from(), operation.to()));
        break;
      case v1::Operation::COPY_BLOCK:
        RETURN_IF_ERROR(kv_->CopyBlock(setup_.device, operation.from(), operation.to()));
        break;
      default:
        return Internal("step {}: unknown operation {}", plan.step(), static_cast<int>(operation.kind()));
    }
  }
  return absl::OkStatus();
}

absl::Status StageRunner::RestoreStates(const v1::StepPlan& plan) {
  for (const v1::RestoredState& restored : plan.restored()) {
    ASSIGN_OR_RETURN(const RankSequence* sequence, sequences_.Find(restored.sequence()));
    RETURN_IF_ERROR(keeper_->Restore(restored.state(), sequence->slot, sequence->blocks));
  }
  for (const uint64_t id : plan.dropped_states()) keeper_->Drop(id);
  return absl::OkStatus();
}

v1::StatesSaved StageRunner::SaveStates(const v1::SaveStates& wanted, const std::string& path) {
  setup_.activity.Set("saving sequences");
  v1::StatesSaved saved = keeper_->Save(wanted, path);
  setup_.activity.Set("idle");
  return saved;
}

absl::Status StageRunner::FetchState(const v1::SavedState& state, const std::string& path) {
  setup_.activity.Set("reading a saved sequence");
  absl::Status status = keeper_->Fetch(state, path);
  setup_.activity.Set("idle");
  return status;
}

absl::StatusOr<v1::StepResult> StageRunner::RunRows(const v1::StepPlan& plan, Batch& batch) {
  ExecContext ctx = Context();
  ctx.arena.Reset();
  const int64_t t = batch.tokens();
  std::vector<int32_t> status(static_cast<size_t>(t), kHealthy);
  ASSIGN_OR_RETURN(MutTensorView h, ctx.arena.Allocate(DType::kF32, {t, setup_.config.text.hidden}));
  ASSIGN_OR_RETURN(MutTensorView health, ctx.arena.Allocate(DType::kI32, {t}));
  if (rank_.first_stage) {
    std::vector<int32_t> ids(static_cast<size_t>(t), 0);
    RETURN_IF_ERROR(CollectIds(plan, batch, ids, status));
    RETURN_IF_ERROR(Embed(ids, h));
    RETURN_IF_ERROR(PlaceFeatures(plan, batch, h));
  } else {
    RETURN_IF_ERROR(ReceiveHidden(h, status));
  }
  const size_t status_bytes = status.size() * sizeof(int32_t);
  RETURN_IF_ERROR(ctx.device.CopyToDevice(ctx.stream, status.data(), health.mut_raw(), status_bytes));
  batch.BuildSegments(status);
  const BatchRows rows{
      .count = t, .lightning = batch.lightning(), .attention = batch.attention(), .health = health};
  RETURN_IF_ERROR(stack_->Forward(ctx, rows, h));

  v1::StepResult result;
  if (!rank_.last_stage) {
    RETURN_IF_ERROR(SendHidden(h, health));
  } else {
    RETURN_IF_ERROR(ctx.device.CopyToHost(ctx.stream, health.raw(), status.data(), status_bytes));
    RETURN_IF_ERROR(ctx.stream.Synchronize());
    if (setup_.logits != nullptr) RETURN_IF_ERROR(head_->Observe(ctx, batch, h, *setup_.logits));
    ASSIGN_OR_RETURN(const std::vector<int32_t> feedback, head_->Sample(ctx, batch, h, status, result));
    if (links_.feedback != nullptr) {
      const auto n = static_cast<int64_t>(feedback.size());
      if (n > 0) {
        RETURN_IF_ERROR(links_.feedback->Send(ctx.stream, TensorView(feedback.data(), DType::kI32, {n})));
      }
    } else {
      std::vector<uint64_t> ids;
      for (const BatchSequence* s : batch.Sampled()) ids.push_back(s->id);
      ApplyFeedback({.step = plan.step(), .sequences = std::move(ids)}, feedback);
    }
  }
  if (rank_.first_stage && links_.feedback != nullptr) {
    PendingFeedback pending{.step = plan.step(), .sequences = {}};
    for (const BatchSequence* s : batch.Sampled()) pending.sequences.push_back(s->id);
    if (!pending.sequences.empty()) pending_feedback_.push_back(std::move(pending));
  }
  return result;
}

absl::Status StageRunner::CollectIds(const v1::StepPlan& plan, const Batch& batch, std::vector<int32_t>& ids,
                                     std::vector<int32_t>& status) {
  while (pending_feedback_.size() > kMaxPendingFeedback) RETURN_IF_ERROR(ReceiveFeedback());
  for (const BatchSequence& s : batch.sequences()) {
    const int64_t end = s.position + s.count;
    while (!s.sequence->ended && static_cast<int64_t>(s.sequence->ids.size()) < end) {
      if (pending_feedback_.empty()) {
        return Internal("step {}: sequence {} needs the token at position {}, known are {}", plan.step(),
                        s.id, end - 1, s.sequence->ids.size());
      }
      RETURN_IF_ERROR(ReceiveFeedback());
    }
    for (int64_t i = 0; i < s.count; ++i) {
      const auto row = static_cast<size_t>(s.row + i);
      if (s.sequence->ended) {
        status[row] = kDeadRow;
        continue;
      }
      ids[row] = s.sequence->ids[static_cast<size_t>(s.position + i)];
      if (ids[row] < 0 || ids[row] >= setup_.config.text.vocab) {
        return Internal("step {}: sequence {} position {} holds id {}, the vocabulary has {}", plan.step(),
                        s.id, s.position + i, ids[row], setup_.config.text.vocab);
      }
    }
  }
  return absl::OkStatus();
}

absl::Status StageRunner::ReceiveFeedback() {
  const PendingFeedback pending = std::move(pending_feedback_.front());
  pending_feedback_.pop_front();
  std::vector<int32_t> ids(pending.sequences.size());
  setup_.activity.Set("waiting for sampled tokens");
  const WaitTimer timer(&timing_.wait_seconds);
  RETURN_IF_ERROR(links_.feedback->Recv(
      setup_.device.stream(), MutTensorView(ids.data(), DType::kI32, {static_cast<int64_t>(ids.size())})));
  ApplyFeedback(pending, ids);
  return absl::OkStatus();
}

void StageRunner::ApplyFeedback(const PendingFeedback& pending, const std::vector<int32_t>& ids) {
  for (size_t i = 0; i < ids.size(); ++i) {
    RankSequence* sequence = sequences_.FindOrNull(pending.sequences[i]);
    if (sequence == nullptr) continue;  // retired in the meantime
    if (ids[i] < 0) {
      sequence->ended = true;
    } else {
      sequence->ids.push_back(ids[i]);
    }
  }
}

absl::Status StageRunner::Embed(const std::vector<int32_t>& ids, const MutTensorView& h) {
  ExecContext ctx = Context();
  ctx.activity.Set("embedding");
  const size_t mark = ctx.arena.used();
  ASSIGN_OR_RETURN(MutTensorView device_ids,
                   ctx.arena.Allocate(DType::kI32, {static_cast<int64_t>(ids.size())}));
  RETURN_IF_ERROR(
      ctx.device.CopyToDevice(ctx.stream, ids.data(), device_ids.mut_raw(), ids.size() * sizeof(int32_t)));
  RETURN_IF_ERROR(ctx.ops.Embedding(
      ctx.stream, {.ids = device_ids, .table = embedding_, .first_row = rank_.vocab.begin, .out = h}));
  if (ctx.stage.size() > 1) {
    ctx.activity.Set("all-reduce after embedding");
    RETURN_IF_ERROR(ctx.stage.AllReduceSum(ctx.stream, h.Reshape({h.elements()})));
  }
  ctx.arena.Rewind(mark);
  return absl::OkStatus();
}

absl::StatusOr<TensorView> StageRunner::FetchFeatures(const v1::FeatureRows& rows) {
  if (features_.has_value()) {
    return features_->Rows(rows.key(), rows.first(), rows.count());
  }
  ASSIGN_OR_RETURN(MutTensorView received,
                   arena_->Allocate(DType::kF32, {rows.count(), setup_.config.text.hidden}));
  Stream& stream = setup_.device.stream();
  if (rank_.index == 0) {
    const auto owner = static_cast<size_t>(VisionRankOf(rows.key(), setup_.plan.layout.vision));
    if (owner >= links_.features.size())
      return Internal("the plan names picture features, this layout has no vision rank");
    setup_.activity.Set("waiting for picture features");
    const WaitTimer timer(&timing_.wait_seconds);
    RETURN_IF_ERROR(links_.features[owner]->Recv(stream, received));
  }
  if (stage_->size() > 1) {
    setup_.activity.Set("broadcast of picture features");
    RETURN_IF_ERROR(stage_->Broadcast(stream, received, 0));
  }
  return received;
}

absl::Status StageRunner::PlaceFeatures(const v1::StepPlan& plan, const Batch& batch,
                                        const MutTensorView& h) {
  for (const v1::FeatureRows& rows : plan.features()) {
    const BatchSequence* s = batch.Find(rows.sequence());
    const int64_t offset = s == nullptr ? 0 : rows.position() - s->position;
    if (s == nullptr || offset < 0 || offset + rows.count() > s->count) {
      return Internal("step {}: feature rows for positions {}..{} of sequence {} lie outside of its rows",
                      plan.step(), rows.position(), rows.position() + rows.count(), rows.sequence());
    }
    const size_t mark = arena_->used();
    ASSIGN_OR_RETURN(const TensorView source, FetchFeatures(rows));
    const MutTensorView target = h.Rows(s->row + offset, rows.count());
    RETURN_IF_ERROR(setup_.device.Copy(setup_.device.stream(), source.raw(), target.mut_raw(),
                                       static_cast<size_t>(target.bytes())));
    arena_->Rewind(mark);
  }
  return absl::OkStatus();
}

absl::Status StageRunner::ReceiveHidden(const MutTensorView& h, std::vector<int32_t>& status) {
  Stream& stream = setup_.device.stream();
  setup_.activity.Set("waiting for the previous stage");
  const WaitTimer timer(&timing_.wait_seconds);
  RETURN_IF_ERROR(links_.from_previous->Recv(stream, h));
  ASSIGN_OR_RETURN(MutTensorView marks, arena_->Allocate(DType::kI32, {static_cast<int64_t>(status.size())}));
  RETURN_IF_ERROR(links_.from_previous->Recv(stream, marks));
  RETURN_IF_ERROR(
      setup_.device.CopyToHost(stream, marks.raw(), status.data(), status.size() * sizeof(int32_t)));
  return stream.Synchronize();
}

absl::Status StageRunner::SendHidden(const MutTensorView& h, const TensorView& health) {
  setup_.activity.Set("sending to the next stage");
  RETURN_IF_ERROR(links_.to_next->Send(setup_.device.stream(), h));
  return links_.to_next->Send(setup_.device.stream(), health);
}

absl::StatusOr<EncodedPictures> StageRunner::Encode(std::span<const Picture> pictures) {
  if (!features_.has_value()) return Internal("rank {} holds no vision tower", setup_.rank);
  ExecContext ctx = Context();
  ctx.arena.Reset();
  auto encoded = features_->Encode(ctx, pictures);
  setup_.activity.Set("idle");
  return encoded;
}

void StageRunner::Evict(const std::string& key) {
  if (features_.has_value()) features_->Evict(key);
}

std::vector<std::pair<std::string, int64_t>> StageRunner::MemoryBytes() const {
  return {
      {"kv", kv_->bytes()}, {"slots", states_->bytes()}, {"arena", static_cast<int64_t>(arena_->capacity())}};
}

}  // namespace fulger
