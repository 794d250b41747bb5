#include "coordinator/engine/engine_core.h"

#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "base/log.h"

namespace fulger {

struct EngineCore::Request {
  std::string id;
  std::shared_ptr<ResponseSink> sink;
  std::vector<std::shared_ptr<const PreparedImage>> images;  // of sequence.images
  Sequence sequence;
  int64_t max_tokens = 0;  // asked for
  int64_t delivered = 0;   // tokens given to the sink
  int64_t image_tokens = 0;
  int64_t scored = 1;  // prompt tokens whose scores are out; the first has none
  std::shared_ptr<TokenConstraint> constraint;
  TimePoint arrival{}, scheduled{}, first_token{}, last_token{};  // the epoch of the clock: not yet
};

absl::Status CheckRequest(const EngineConfig& config, const EngineRequest& request) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  if (prompt == 0) return InvalidArgument("request {}: the prompt is empty", request.id);
  if (request.sampling.max_tokens() <= 0) {
    return InvalidArgument("request {}: max_tokens is {}, expected at least 1", request.id,
                           request.sampling.max_tokens());
  }
  if (prompt >= config.max_context) {
    return InvalidArgument("the prompt has {} tokens; the context of {} leaves room for at most {}", prompt,
                           config.max_context, config.max_context - 1);
  }
  int64_t end = 0;
  for (const ImageSpan& span : request.images) {
    if (span.position < end || span.image == nullptr || span.image->tokens <= 0 ||
        span.position + span.image->tokens > prompt) {
      return InvalidArgument("request {}: picture at position {} of {} tokens, after position {}", request.id,
                             span.position, prompt, end);
    }
    end = span.position + span.image->tokens;
    if (span.image->tokens * config.feature_row_bytes > config.feature_cache_bytes) {
      return InvalidArgument("a picture has {} feature rows of {} bytes; the feature cache holds {} bytes",
                             span.image->tokens, config.feature_row_bytes, config.feature_cache_bytes);
    }
  }
  if ((request.constraint == nullptr) != (request.first_mask == nullptr)) {
    return InvalidArgument("request {}: a constraint and its first mask come together", request.id);
  }
  return absl::OkStatus();
}

EngineCore::EngineCore(const EngineConfig& config, Backend* backend, const Clock* clock,
                       EngineObserver* observer, std::function<void(const std::string&)> on_end)
    : config_(config),
      backend_(backend),
      clock_(clock),
      observer_(observer),
      on_end_(std::move(on_end)),
      down_reason_(Unavailable("no replica has come up yet")) {}

EngineCore::~EngineCore() = default;

int64_t EngineCore::max_length() const {
  return planner_ == nullptr ? config_.max_context : std::min(config_.max_context, planner_->MaxLength());
}

void EngineCore::Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink) {
  auto owned = std::make_unique<Request>();
  Request* r = owned.get();
  r->id = std::move(request.id);
  r->sink = std::move(sink);
  r->arrival = request.arrival == TimePoint{} ? clock_->Now() : request.arrival;
  r->max_tokens = request.sampling.max_tokens();
  Sequence& s = r->sequence;
  s.order = ++arrivals_;
  s.prompt_count = static_cast<int64_t>(request.prompt.size());
  s.ids = std::move(request.prompt);
  s.sampling = std::move(request.sampling);
  s.constrained = request.constraint != nullptr;
  s.mask = std::move(request.first_mask);
  s.mask_position = s.prompt_count;
  r->constraint = std::move(request.constraint);
  totals_.pictures += request.images.size();
  for (ImageSpan& span : request.images) {
    s.images.push_back({.key = span.image->key, .position = span.position, .rows = span.image->tokens});
    r->image_tokens += span.image->tokens;
    r->images.push_back(std::move(span.image));
  }
  s.priority = request.priority;
  s.use_anchors = request.use_anchors && s.sampling.prompt_logprobs() == 0;  // those need every row
  s.anchors = ChooseAnchors(s.prompt_count, request.borders, s.images, config_.anchor_rules);
  const bool fresh = by_id_.emplace(r->id, r).second;
  FULGER_CHECK(fresh, "request {} submitted twice", r->id);
  requests_.emplace(s.order, std::move(owned));
  if (planner_ != nullptr) Enqueue(r);
}

// Into the planner of this epoch, with everything generated so far.
void EngineCore::Enqueue(Request* r) {
  Sequence& s = r->sequence;
  s.max_length = std::min(s.prompt_count + r->max_tokens, max_length());
  if (static_cast<int64_t>(s.ids.size()) < s.max_length) {
    planner_->Add(&s);
  } else if (s.generated() > 0) {
    End(r, FinishReason::kLength);  // came back to a replica with a smaller cache
  } else {
    End(r, FinishReason::kError,
        InvalidArgument("the prompt has {} tokens; the cache of the replica leaves room for at most {}",
                        s.prompt_count, max_length() - 1));
  }
}

void EngineCore::Cancel(const std::string& id) {
  const auto it = by_id_.find(id);
  if (it != by_id_.end()) End(it->second, FinishReason::kCancelled);
}

void EngineCore::EndAll(FinishReason reason, const absl::Status& why) {
  while (!requests_.empty()) End(requests_.begin()->second.get(), reason, why);
}

void EngineCore::Up(uint64_t epoch, const ReplicaCapacity& capacity) {
  if (epoch <= epoch_) {
    LogWarn("replica {}: epoch {} came up after epoch {}: ignored", config_.replica, epoch, epoch_);
    return;
  }
  if (planner_ != nullptr) Down(Unavailable("replaced by epoch {}", epoch));
  epoch_ = epoch;
  if (capacity.blocks <= 0 || capacity.block_size <= 0 || capacity.slots <= 0 || capacity.stages <= 0 ||
      capacity.max_step_tokens <= 0) {
    down_reason_ = FailedPrecondition(
        "replica {} came up with {} blocks of {} tokens, {} slots, {} stages, {} tokens a step: all must be "
        "positive",
        config_.replica, capacity.blocks, capacity.block_size, capacity.slots, capacity.stages,
        capacity.max_step_tokens);
    LogError("{}", Message(down_reason_));
    return;
  }
  const int64_t anchors = std::min(config_.anchors, capacity.slots - 1);
  planner_ = std::make_unique<StepPlanner>(
      PlannerConfig{.replica = config_.replica,
                    .epoch = epoch,
                    .blocks = capacity.blocks,
                    .block_size = capacity.block_size,
                    .slots = capacity.slots,
                    .step_tokens = std::min(config_.max_step_tokens, capacity.max_step_tokens),
                    .max_running = std::min(config_.max_running_requests, capacity.slots - anchors),
                    .stages = capacity.stages,
                    .steps_in_flight = config_.steps_in_flight,
                    .features = {.bytes = config_.feature_cache_bytes,
                                 .row_bytes = config_.feature_row_bytes,
                                 .encoding = config_.max_images_encoding},
                    .anchors = {.anchors = anchors}});
  LogInfo("replica {} epoch {}: {} blocks of {} tokens, {} slots, {} stages; {} requests wait",
          config_.replica, epoch, capacity.blocks, capacity.block_size, capacity.slots, capacity.stages,
          requests_.size());
  std::vector<Request*> all;  // Enqueue may end some
  for (const auto& [order, request] : requests_) all.push_back(request.get());
  for (Request* request : all) Enqueue(request);
}

void EngineCore::Down(const absl::Status& why) {
  down_reason_ = why;
  if (planner_ == nullptr) return;
  LogWarn("replica {} epoch {} is down, {} requests will resume: {}", config_.replica, epoch_,
          requests_.size(), Message(why));
  totals_.preemptions += planner_->preemptions();
  totals_.anchor_evictions += planner_->anchors().evictions();
  planner_.reset();
  steps_.clear();
  last_step_time_ = {};
  totals_.probe_error.clear();
  for (const auto& [order, request] : requests_) request->sequence.Forget();
}

void EngineCore::Pump() {
  if (planner_ == nullptr) return;
  while (auto plan = planner_->Next()) SubmitPlan(std::move(plan));
  // After planning, which may find that an anchor spares a picture, or that it is gone.
  const StepPlanner::FeatureChanges changes = planner_->UpdateFeatures();
  if (!changes.evict.empty()) backend_->Evict(epoch_, changes.evict);
  totals_.pictures_encoded += changes.encode.size();
  for (const auto& encode : changes.encode) {
    backend_->Encode(epoch_, Owner(*encode.sequence)->images[encode.image]);
  }
  if (probe_due_ && steps_.empty()) SubmitPlan(planner_->Probe());
  probe_due_ = false;
}

void EngineCore::ProbeDue(uint64_t epoch) { probe_due_ = planner_ != nullptr && epoch == epoch_; }

void EngineCore::SubmitPlan(std::shared_ptr<const v1::StepPlan> plan) {
  const TimePoint now = clock_->Now();
  StepInfo info{.step = plan->step(), .submitted = now, .probe = plan->probe()};
  for (const v1::Row& row : plan->rows()) {
    if (row.result_of_step() != 0) {
      ++info.decode_rows;
    } else {
      info.prefill_tokens += row.count();
    }
  }
  for (const v1::NewSequence& announced : plan->new_sequences()) {
    Request* request = Owner(*planner_->Find(announced.sequence()));
    if (request->scheduled != TimePoint{}) continue;
    request->scheduled = now;
    totals_.prompt_tokens += static_cast<uint64_t>(request->sequence.prompt_count);
    totals_.cached_tokens += static_cast<uint64_t>(request->sequence.cache.cached);
    totals_.anchor_hits += request->sequence.cache.cached > 0 ? 1 : 0;
  }
  steps_.push_back(info);
  backend_->Submit(std::move(plan));
}

void EngineCore::Result(const v1::StepResult& result) {
  if (planner_ == nullptr || result.epoch() != epoch_) {
    LogDebug("replica {}: result of step {} of epoch {} dropped", config_.replica, result.step(),
             result.epoch());
    return;
  }
  const auto rows = planner_->Answered(result.step());
  if (!rows.has_value()) {
    LogError("replica {}: result of step {} ignored: expected step {}", config_.replica, result.step(),
             steps_.empty() ? 0 : steps_.front().step);
    return;
  }
  if (steps_.front().probe) NoteProbe(result);
  std::unordered_set<uint64_t> named;
  for (const auto& row : *rows) named.insert(row.id);
  for (const v1::SequenceError& error : result.errors()) {
    Sequence* s = named.contains(error.sequence()) ? planner_->Find(error.sequence()) : nullptr;
    if (s != nullptr) End(Owner(*s), FinishReason::kError, Internal("{}", error.message()));
  }
  for (const v1::PromptScores& scores : result.prompt_scores()) {
    if (named.contains(scores.sequence())) DeliverScores(scores);
  }
  for (const v1::SampledToken& token : result.tokens()) {
    if (!named.contains(token.sequence())) {
      LogError("replica {}: step {} brought a token for sequence {}, which it did not run: ignored",
               config_.replica, result.step(), token.sequence());
    } else if (Sequence* s = planner_->Find(token.sequence())) {  // else it ended meanwhile
      ApplyToken(s, token);
    }
  }
  EndUnanswered(*rows, result);
  RecordStep(result.step());
}

void EngineCore::NoteProbe(const v1::StepResult& result) {
  const std::string error = result.errors().empty() ? "" : result.errors(0).message();
  if (error != totals_.probe_error) {
    if (error.empty()) {
      LogInfo("replica {}: probe steps pass again", config_.replica);
    } else {
      LogError("replica {}: the probe step {} failed: {}", config_.replica, result.step(), error);
    }
  }
  totals_.probe_error = error;
}

// A live sequence whose row sampled must have got a token: without one it would wait for ever.
void EngineCore::EndUnanswered(const std::vector<StepPlanner::AnsweredRow>& rows,
                               const v1::StepResult& result) {
  std::unordered_set<uint64_t> answered;
  for (const v1::SampledToken& token : result.tokens()) answered.insert(token.sequence());
  for (const auto& row : rows) {
    Sequence* s = row.sampled && !answered.contains(row.id) ? planner_->Find(row.id) : nullptr;
    if (s == nullptr) continue;
    End(Owner(*s), FinishReason::kError,
        Internal("step {} brought neither a token nor an error for this request", result.step()));
  }
}

void EngineCore::ApplyToken(Sequence* s, const v1::SampledToken& sampled) {
  Request* r = Owner(*s);
  if (sampled.position() != static_cast<int64_t>(s->ids.size())) {
    End(r, FinishReason::kError,
        Internal("the replica sampled position {}, expected {}", sampled.position(), s->ids.size()));
    return;
  }
  if (sampled.finish() == v1::SampledToken::STOP_ID) {
    End(r, FinishReason::kStopId, absl::OkStatus(), sampled.id());
    return;
  }
  s->ids.push_back(sampled.id());
  Deliver(r, sampled);
}

void EngineCore::Deliver(Request* r, const v1::SampledToken& sampled) {
  RecordTokenTime(r);
  ++totals_.generated_tokens;
  ++r->delivered;
  top_logprobs_.clear();
  for (const v1::TokenLogprob& top : sampled.top()) top_logprobs_.emplace_back(top.id(), top.logprob());
  const Token token{.id = sampled.id(), .logprob = sampled.logprob(), .top = top_logprobs_};
  const ResponseSink::Next next = r->sink->OnToken(token);
  if (next == ResponseSink::Next::kStop) {
    End(r, FinishReason::kStopString);
  } else if (sampled.finish() == v1::SampledToken::LENGTH ||
             static_cast<int64_t>(r->sequence.ids.size()) >= r->sequence.max_length) {
    End(r, FinishReason::kLength);
  } else if (r->constraint != nullptr) {
    AdvanceConstraint(r, sampled.id());
  }
}

// A sequence that runs anew (preempted, or on a rebuilt replica) is scored anew: what is out is left out.
void EngineCore::DeliverScores(const v1::PromptScores& scores) {
  Sequence* s = planner_->Find(scores.sequence());
  if (s == nullptr) return;
  Request* r = Owner(*s);
  const int64_t known = r->scored - scores.position();
  if (known < 0 || known >= scores.tokens_size()) return;
  r->scored = scores.position() + scores.tokens_size();
  r->sink->OnPromptScores(scores, static_cast<int>(known));
}

void EngineCore::MakeMasksWith(RunWork run, PostMask post) {
  run_ = std::move(run);
  post_ = std::move(post);
}

// The request may be gone when the mask is there: the work holds what it needs.
void EngineCore::AdvanceConstraint(Request* r, int32_t token) {
  run_([constraint = r->constraint, token, order = r->sequence.order, post = post_] {
    post(order, constraint->Advance(token));
  });
}

void EngineCore::MaskReady(uint64_t order, absl::StatusOr<std::shared_ptr<const TokenMask>> mask) {
  const auto found = requests_.find(order);
  if (found == requests_.end()) return;
  if (!mask.ok()) return End(found->second.get(), FinishReason::kError, mask.status());
  Sequence& s = found->second->sequence;
  s.mask = *std::move(mask);
  s.mask_position = static_cast<int64_t>(s.ids.size());
}

void EngineCore::RecordTokenTime(Request* r) {
  const TimePoint now = clock_->Now();
  if (r->first_token == TimePoint{}) {
    r->first_token = now;
    first_token_.push_back(Seconds(now - r->arrival));
  } else {
    token_gap_.push_back(Seconds(now - r->last_token));
  }
  r->last_token = now;
}

void EngineCore::RecordStep(uint64_t step) {
  last_step_time_ = clock_->Now();
  FULGER_CHECK(!steps_.empty() && steps_.front().step == step, "step {} was not submitted", step);
  const StepInfo info = steps_.front();
  steps_.pop_front();
  if (info.probe) return;
  ++totals_.steps;
  if (observer_ != nullptr) {
    observer_->OnStep({.step = step,
                       .decode_rows = info.decode_rows,
                       .prefill_tokens = info.prefill_tokens,
                       .seconds = Seconds(last_step_time_ - info.submitted),
                       .first_token = first_token_,
                       .token_gap = token_gap_});
  }
  first_token_.clear();
  token_gap_.clear();
}

void EngineCore::FeaturesReady(uint64_t epoch, const std::string& key, const absl::Status& status) {
  if (planner_ == nullptr || epoch != epoch_) return;
  if (status.ok()) {
    if (!planner_->features().Encoded(key)) LogError("features ready that nobody asked for: ignored");
    return;
  }
  if (!planner_->features().Failed(key)) return;
  std::vector<Request*> needing;
  for (const auto& [order, request] : requests_) {
    const Sequence& s = request->sequence;
    const auto needs = [&](const ImageRun& i) { return i.key == key && i.position + i.rows > s.planned; };
    if (std::ranges::any_of(s.images, needs)) needing.push_back(request.get());
  }
  for (Request* request : needing) End(request, FinishReason::kError, Annotate(status, "encoding a picture"));
}

// Rows planned behind a stop id or the last token are dead on the workers, so that the state is that after
// all ids (the last token of the length is never run). Behind a stop string or a cancel rows have run that
// nobody wanted.
int64_t EngineCore::IntactPositions(const Request& request, FinishReason reason) {
  const auto ids = static_cast<int64_t>(request.sequence.ids.size());
  if (reason == FinishReason::kStopId) return ids;
  return reason == FinishReason::kLength ? ids - 1 : 0;
}

void EngineCore::End(Request* request, FinishReason reason, const absl::Status& error, int32_t stop_id) {
  if (planner_ != nullptr && request->sequence.phase != Sequence::Phase::kIdle) {
    planner_->Remove(&request->sequence, IntactPositions(*request, reason));
  }
  by_id_.erase(request->id);
  const auto owned = std::move(requests_.extract(request->sequence.order).mapped());
  const Completion completion{.reason = reason,
                              .stop_id = stop_id,
                              .error = error,
                              .prompt_tokens = request->sequence.prompt_count,
                              .completion_tokens = request->delivered,
                              .cached_tokens = request->sequence.cache.cached,
                              .image_tokens = request->image_tokens,
                              .cache = request->sequence.cache};
  on_end_(request->id);
  request->sink->OnDone(completion);
  if (observer_ != nullptr) Report(*request, completion);
}

void EngineCore::Report(const Request& r, const Completion& completion) {
  RequestRecord record{.completion = completion, .max_tokens = r.max_tokens};
  const TimePoint now = clock_->Now();
  const auto phase = [&](TimePoint from, TimePoint to) {
    return from == TimePoint{} ? 0.0 : Seconds((to == TimePoint{} ? now : to) - from);
  };
  record.queue = phase(r.arrival, r.scheduled);
  record.prefill = phase(r.scheduled, r.first_token);
  record.decode = phase(r.first_token, r.last_token);
  record.total = Seconds(now - r.arrival);
  observer_->OnRequestDone(record);
}

EngineStats EngineCore::Stats() const {
  EngineStats stats = totals_;
  stats.epoch = epoch_;
  stats.ready = planner_ != nullptr;
  if (planner_ == nullptr) {
    stats.down_reason = Message(down_reason_);
    stats.waiting = static_cast<int64_t>(requests_.size());
    return stats;
  }
  stats.running = planner_->running();
  stats.waiting = planner_->waiting();
  stats.blocks_total = planner_->blocks().size();
  stats.blocks_used = stats.blocks_total - planner_->blocks().free() - planner_->blocks().kept();
  stats.slots_total = planner_->slots().size();
  stats.slots_used = stats.slots_total - planner_->slots().free() - planner_->anchors().size();
  stats.preemptions += planner_->preemptions();
  stats.anchors = planner_->anchors().size();
  stats.blocks_cached = planner_->blocks().kept();
  stats.anchor_evictions += planner_->anchors().evictions();
  return stats;
}

}  // namespace fulger
