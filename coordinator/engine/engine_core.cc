#include "coordinator/engine/engine_core.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"
#include "coordinator/engine/engine_core_request.h"
#include "coordinator/scheduler/route.h"

namespace fulger {

EngineCore::Request* EngineCore::Owner(const Sequence& sequence) {
  return static_cast<Request*>(sequence.owner);
}

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

EngineCore::EngineCore(const EngineConfig& config, const std::vector<Backend*>& backends, const Clock* clock,
                       EngineObserver* observer, std::function<void(const std::string&)> on_end)
    : config_(config), clock_(clock), observer_(observer), on_end_(std::move(on_end)) {
  FULGER_CHECK(!backends.empty(), "an engine without a backend");
  for (size_t i = 0; i < backends.size(); ++i) {
    replicas_.push_back({.name = std::to_string(i),
                         .backend = backends[i],
                         .down_reason = Unavailable("replica {} has not come up yet", i)});
  }
}

EngineCore::~EngineCore() = default;

int64_t EngineCore::MaxLengthOn(const Replica& replica) const {
  return std::min(config_.max_context, replica.planner->MaxLength());
}

int64_t EngineCore::max_length() const {
  int64_t longest = 0;
  for (const Replica& replica : replicas_) {
    if (replica.planner != nullptr) longest = std::max(longest, MaxLengthOn(replica));
  }
  return longest == 0 ? config_.max_context : longest;
}

void EngineCore::Submit(EngineRequest request, std::shared_ptr<ResponseSink> sink) {
  auto owned = std::make_unique<Request>();
  Request* r = owned.get();
  r->id = std::move(request.id);
  r->sequence.request = request.request.empty() ? r->id : std::move(request.request);
  r->sink = std::move(sink);
  r->arrival = request.arrival == TimePoint{} ? clock_->Now() : request.arrival;
  r->max_tokens = request.sampling.max_tokens();
  Sequence& s = r->sequence;
  s.owner = r;
  s.order = ++arrivals_;
  s.prompt_count = static_cast<int64_t>(request.prompt.size());
  s.ids = std::move(request.prompt);
  s.sampling = std::move(request.sampling);
  s.constrained = request.constraint != nullptr;
  s.mask = std::move(request.first_mask);
  s.mask_position = s.prompt_count;
  r->constraint = std::move(request.constraint);
  // Scores of the prompt need every row of it, before any token: such a request begins anew.
  if (s.sampling.prompt_logprobs() == 0) r->identity = std::move(request.identity);
  totals_.pictures += request.images.size();
  for (ImageSpan& span : request.images) {
    s.images.push_back({.key = span.image->key,
                        .position = span.position,
                        .rows = span.image->tokens,
                        .tiles = span.image->tile_count});
    r->image_tokens += span.image->tokens;
    r->images.push_back(std::move(span.image));
  }
  s.priority = request.priority;
  s.use_anchors = request.use_anchors && s.sampling.prompt_logprobs() == 0;  // those need every row
  s.anchors = ChooseAnchors(s.prompt_count, request.borders, s.images, config_.anchor_rules, request.copies);
  const bool fresh = by_id_.emplace(r->id, r).second;
  FULGER_CHECK(fresh, "request {} submitted twice", r->id);
  const uint64_t order = s.order;
  requests_.emplace(order, std::move(owned));
  if (request.saved != nullptr && !r->identity.empty() && !Resume(r, request.saved)) return;
  Assign(r);
  CountKnownPictures(order);
}

// Assigning may have ended the request.
void EngineCore::CountKnownPictures(uint64_t order) {
  const auto found = requests_.find(order);
  if (found == requests_.end() || found->second->replica == nullptr) return;
  const FeatureCache& features = found->second->replica->planner->features();
  for (const ImageRun& image : found->second->sequence.images) {
    totals_.pictures_known += features.Ready(image.key) ? 1 : 0;
  }
}

// To the replica where it costs least; to none while none is up.
void EngineCore::Assign(Request* r) {
  std::vector<ReplicaView> views;
  for (const Replica& replica : replicas_) {
    ReplicaView view{.up = replica.planner != nullptr};
    if (view.up) {
      if (replicas_.size() > 1) view.cached = replica.planner->CachedPositions(&r->sequence);
      view.requests = replica.planner->running() + replica.planner->waiting();
    }
    views.push_back(view);
  }
  const size_t chosen = ChooseReplica(views, static_cast<int64_t>(r->sequence.ids.size()));
  r->replica = chosen < replicas_.size() ? &replicas_[chosen] : nullptr;
  if (r->replica != nullptr) Enqueue(r);
}

// Into the planner of its replica's epoch, with everything generated so far.
void EngineCore::Enqueue(Request* r) {
  Sequence& s = r->sequence;
  s.max_length = std::min(s.prompt_count + r->max_tokens, MaxLengthOn(*r->replica));
  if (static_cast<int64_t>(s.ids.size()) < s.max_length) {
    r->replica->planner->Add(&s);
  } else if (s.generated() > 0) {
    End(r, FinishReason::kLength);  // came back to a replica with a smaller cache
  } else {
    End(r, FinishReason::kError,
        InvalidArgument("the prompt has {} tokens; the cache of the replica leaves room for at most {}",
                        s.prompt_count, MaxLengthOn(*r->replica) - 1));
  }
}

void EngineCore::Cancel(const std::string& id) {
  const auto it = by_id_.find(id);
  if (it != by_id_.end()) End(it->second, FinishReason::kCancelled);
}

void EngineCore::EndAll(FinishReason reason, const absl::Status& why) {
  while (!requests_.empty()) End(requests_.begin()->second.get(), reason, why);
}

PlannerConfig EngineCore::PlannerConfigOf(const Replica& replica, const ReplicaCapacity& capacity) const {
  // A replica may have fewer slots than were asked for: anchors then leave half of them to sequences.
  const int64_t left = std::max(capacity.slots - config_.max_running_requests, capacity.slots / 2);
  const int64_t anchors = std::min({config_.anchors, left, capacity.slots - 1});
  return {.replica = replica.name,
          .epoch = replica.epoch,
          .blocks = capacity.blocks,
          .block_size = capacity.block_size,
          .slots = capacity.slots,
          .step_tokens = std::min(config_.max_step_tokens, capacity.max_step_tokens),
          .max_running = std::min(config_.max_running_requests, capacity.slots - anchors),
          .stages = capacity.stages,
          .steps_in_flight = config_.steps_in_flight,
          .features = {.bytes = config_.feature_cache_bytes,
                       .row_bytes = config_.feature_row_bytes,
                       .encoding = config_.max_images_encoding,
                       .pass_tiles = config_.pass_tiles},
          .anchors = {.anchors = anchors},
          .answers = config_.anchor_rules};
}

void EngineCore::Up(size_t index, uint64_t epoch, const ReplicaCapacity& capacity) {
  Replica& replica = replicas_[index];
  if (epoch <= replica.epoch) {
    LogWarn("replica {}: epoch {} came up after epoch {}: ignored", replica.name, epoch, replica.epoch);
    return;
  }
  if (replica.planner != nullptr) Down(index, Unavailable("replaced by epoch {}", epoch));
  replica.epoch = epoch;
  if (capacity.blocks <= 0 || capacity.block_size <= 0 || capacity.slots <= 0 || capacity.stages <= 0 ||
      capacity.max_step_tokens <= 0) {
    replica.down_reason = FailedPrecondition(
        "replica {} came up with {} blocks of {} tokens, {} slots, {} stages, {} tokens a step: all must be "
        "positive",
        replica.name, capacity.blocks, capacity.block_size, capacity.slots, capacity.stages,
        capacity.max_step_tokens);
    LogError("{}", Message(replica.down_reason));
    return;
  }
  replica.planner = std::make_unique<StepPlanner>(PlannerConfigOf(replica, capacity));
  LogInfo("replica {} epoch {}: {} blocks of {} tokens, {} slots, {} stages; {} requests are there",
          replica.name, epoch, capacity.blocks, capacity.block_size, capacity.slots, capacity.stages,
          requests_.size());
  TakeBackWaiting();
  std::vector<Request*> free;  // Assign may end some
  for (const auto& [order, request] : requests_) {
    if (request->replica == nullptr) free.push_back(request.get());
  }
  for (Request* request : free) Assign(request);
}

// What no replica has begun is dealt out anew: one more has come up.
void EngineCore::TakeBackWaiting() {
  for (const auto& [order, request] : requests_) {
    const Sequence& s = request->sequence;
    if (request->replica == nullptr || s.phase != Sequence::Phase::kWaiting) continue;
    if (s.in_flight > 0 || s.slot >= 0 || s.fetching()) continue;
    request->replica->planner->Remove(&request->sequence);
    request->replica = nullptr;
  }
}

void EngineCore::Down(size_t index, const absl::Status& why) {
  Replica& replica = replicas_[index];
  replica.down_reason = why;
  if (replica.planner == nullptr) return;
  totals_.preemptions += replica.planner->preemptions();
  totals_.anchor_evictions += replica.planner->anchors().evictions();
  replica.planner.reset();
  replica.steps.clear();
  replica.last_step = {};
  replica.probe_error.clear();
  std::vector<Request*> orphans;
  for (const auto& [order, request] : requests_) {
    if (request->replica == &replica) orphans.push_back(request.get());
  }
  LogWarn("replica {} epoch {} is down, {} requests will resume: {}", replica.name, replica.epoch,
          orphans.size(), Message(why));
  for (Request* request : orphans) {
    request->sequence.Forget();
    request->replica = nullptr;
  }
  for (Request* request : orphans) Assign(request);  // with everything generated so far
}

void EngineCore::Pump() {
  if (suspension_ != nullptr) return PumpSuspension();
  for (Replica& replica : replicas_) {
    if (replica.planner != nullptr) PumpReplica(replica);
  }
}

void EngineCore::ProbeDue(size_t index, uint64_t epoch) {
  Replica& replica = replicas_[index];
  replica.probe_due = replica.planner != nullptr && epoch == replica.epoch;
}

TimePoint EngineCore::last_step_time() const {
  return std::ranges::max_element(replicas_, {}, &Replica::last_step)->last_step;
}

void EngineCore::PumpReplica(Replica& replica) {
  while (true) {
    const TimePoint begin = clock_->Now();
    auto plan = replica.planner->Next();
    if (plan == nullptr) break;
    SubmitPlan(replica, std::move(plan), begin);
  }
  // After planning, which may find that an anchor spares a picture, or that it is gone.
  const StepPlanner::FeatureChanges changes = replica.planner->UpdateFeatures();
  if (!changes.evict.empty()) replica.backend->Evict(replica.epoch, changes.evict);
  if (!changes.withdraw.empty()) replica.backend->Withdraw(replica.epoch, changes.withdraw);
  Backend::Pictures pictures;
  for (const auto& encode : changes.encode) {
    pictures.push_back(Owner(*encode.sequence)->images[encode.image]);
  }
  if (!pictures.empty()) replica.backend->Encode(replica.epoch, pictures);
  for (const auto& state : replica.planner->StatesToFetch()) replica.backend->Fetch(replica.epoch, *state);
  totals_.pictures_encoded += pictures.size();
  if (replica.probe_due && replica.steps.empty())
    SubmitPlan(replica, replica.planner->Probe(), clock_->Now());
  replica.probe_due = false;
}

void EngineCore::SubmitPlan(Replica& replica, std::shared_ptr<const v1::StepPlan> plan, TimePoint begin) {
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
    Request* request = Owner(*replica.planner->Find(announced.sequence()));
    if (request->scheduled != TimePoint{}) continue;
    request->scheduled = now;
    totals_.prompt_tokens += static_cast<uint64_t>(request->sequence.prompt_count);
    totals_.cached_tokens += static_cast<uint64_t>(request->sequence.cache.cached);
    totals_.anchor_hits += request->sequence.cache.cached > 0 ? 1 : 0;
  }
  replica.steps.push_back(info);
  replica.backend->Submit(plan);
  if (observer_ != nullptr) ReportPlan(replica, *plan, begin);
}

void EngineCore::Result(size_t index, const v1::StepResult& result) {
  Replica& replica = replicas_[index];
  StepPlanner* planner = replica.planner.get();
  if (planner == nullptr || result.epoch() != replica.epoch) {
    LogDebug("replica {}: result of step {} of epoch {} dropped", replica.name, result.step(),
             result.epoch());
    return;
  }
  const TimePoint answered = clock_->Now();
  const auto rows = planner->Answered(result.step());
  if (!rows.has_value()) {
    LogError("replica {}: result of step {} ignored: expected step {}", replica.name, result.step(),
             replica.steps.empty() ? 0 : replica.steps.front().step);
    return;
  }
  if (replica.steps.front().probe) NoteProbe(replica, result);
  // Few have errors or scores.
  const auto find = [&](uint64_t id) {
    const auto row = std::ranges::find(*rows, id, &StepPlanner::AnsweredRow::id);
    return row == rows->end() ? nullptr : planner->Find(id);
  };
  for (const v1::SequenceError& error : result.errors()) {
    Sequence* s = find(error.sequence());
    if (s != nullptr) End(Owner(*s), FinishReason::kError, Internal("{}", error.message()));
  }
  for (const v1::PromptScores& scores : result.prompt_scores()) {
    Sequence* s = find(scores.sequence());
    if (s != nullptr) DeliverScores(s, scores);
  }
  ApplyTokens(replica, *rows, result);
  RecordStep(replica, result.step(), answered);
}

// Tokens come in the order of the plan's rows, so one walk pairs them. A live sequence whose row sampled must
// have got a token: without one it would wait for ever.
void EngineCore::ApplyTokens(const Replica& replica, const std::vector<StepPlanner::AnsweredRow>& rows,
                             const v1::StepResult& result) {
  const bool errors = result.errors_size() > 0;  // which have ended some sequences by now
  std::vector<bool> answered(rows.size(), false);
  size_t next = 0;
  for (const v1::SampledToken& token : result.tokens()) {
    size_t i = next;
    while (i < rows.size() && rows[i].id != token.sequence()) ++i;
    if (i == rows.size()) {
      LogError("replica {}: step {} brought a token for sequence {}, which it did not run: ignored",
               replica.name, result.step(), token.sequence());
      continue;
    }
    answered[i] = true;
    next = i + 1;
    Sequence* s = errors ? replica.planner->Find(rows[i].id) : rows[i].sequence;
    if (s != nullptr) ApplyToken(s, token);  // else it ended meanwhile
  }
  for (size_t i = 0; i < rows.size(); ++i) {
    if (answered[i] || !rows[i].sampled || rows[i].sequence == nullptr) continue;
    Sequence* s = replica.planner->Find(rows[i].id);
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
  if (!r->identity.empty()) {
    v1::SavedToken& kept = r->tokens.emplace_back();
    kept.set_id(sampled.id());
    kept.set_logprob(sampled.logprob());
    *kept.mutable_top() = sampled.top();
  }
  const ResponseSink::Next next = r->sink->OnToken(token);
  if (next == ResponseSink::Next::kStop) {
    End(r, FinishReason::kStopString);
  } else if (sampled.finish() == v1::SampledToken::LENGTH ||
             static_cast<int64_t>(r->sequence.ids.size()) >= r->sequence.max_length) {
    End(r, FinishReason::kLength);
  } else if (r->constraint != nullptr) {
    AdvanceConstraint(r, {sampled.id()});
  }
}

// A sequence that runs anew (preempted, or on a rebuilt replica) is scored anew: what is out is left out.
void EngineCore::DeliverScores(Sequence* s, const v1::PromptScores& scores) {
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
void EngineCore::AdvanceConstraint(Request* r, std::vector<int32_t> tokens) {
  run_([constraint = r->constraint, tokens = std::move(tokens), order = r->sequence.order, post = post_] {
    absl::StatusOr<std::shared_ptr<const TokenMask>> mask = nullptr;
    for (size_t i = 0; i < tokens.size() && mask.ok(); ++i) mask = constraint->Advance(tokens[i]);
    post(order, std::move(mask));
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

void EngineCore::FeaturesReady(size_t index, uint64_t epoch, const std::string& key,
                               const absl::Status& status) {
  Replica& replica = replicas_[index];
  if (replica.planner == nullptr || epoch != replica.epoch) return;
  if (status.ok()) {
    if (!replica.planner->features().Encoded(key)) LogError("features ready that nobody asked for: ignored");
    return;
  }
  if (!replica.planner->features().Failed(key)) return;
  std::vector<Request*> needing;
  for (const auto& [order, request] : requests_) {
    const Sequence& s = request->sequence;
    const auto needs = [&](const ImageRun& i) { return i.key == key && i.position + i.rows > s.planned; };
    if (request->replica == &replica && std::ranges::any_of(s.images, needs))
      needing.push_back(request.get());
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
  if (request->sequence.phase != Sequence::Phase::kIdle) {
    request->replica->planner->Remove(&request->sequence, IntactPositions(*request, reason),
                                      /*failed=*/reason == FinishReason::kError);
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
                              .cache = request->sequence.cache,
                              .times = TimesOf(*request)};
  on_end_(request->id);
  request->sink->OnDone(completion);
  if (observer_ == nullptr) return;
  observer_->OnRequestDone({.id = request->id,
                            .request = request->sequence.request,
                            .arrival = request->arrival,
                            .completion = completion,
                            .max_tokens = request->max_tokens});
}

RequestTimes EngineCore::TimesOf(const Request& r) const {
  const TimePoint now = clock_->Now();
  const auto phase = [&](TimePoint from, TimePoint to) {
    return from == TimePoint{} ? 0.0 : Seconds((to == TimePoint{} ? now : to) - from);
  };
  return {.queue = phase(r.arrival, r.scheduled),
          .prefill = phase(r.scheduled, r.first_token),
          .decode = phase(r.first_token, r.last_token),
          .total = Seconds(now - r.arrival)};
}

EngineStats EngineCore::Stats() const {
  EngineStats stats = totals_;
  for (const Replica& replica : replicas_) {
    ReplicaStats one{.ready = replica.planner != nullptr, .epoch = replica.epoch};
    if (!one.ready) {
      one.down_reason = Message(replica.down_reason);
      if (stats.down_reason.empty()) stats.down_reason = one.down_reason;
      stats.replicas.push_back(std::move(one));
      continue;
    }
    const StepPlanner& planner = *replica.planner;
    one.running = planner.running();
    one.waiting = planner.waiting();
    one.anchors = planner.anchors().size();
    one.probe_error = replica.probe_error;
    // A replica that cannot compute does not matter while another can.
    if (!stats.ready) stats.probe_error = one.probe_error;
    if (one.probe_error.empty()) stats.probe_error.clear();
    stats.ready = true;
    stats.running += one.running;
    stats.waiting += one.waiting;
    stats.anchors += one.anchors;
    stats.blocks_total += planner.blocks().size();
    stats.blocks_cached += planner.blocks().kept();
    stats.blocks_used += planner.blocks().size() - planner.blocks().free() - planner.blocks().kept();
    stats.slots_total += planner.slots().size();
    stats.slots_used += planner.slots().size() - planner.slots().free() - one.anchors;
    stats.preemptions += planner.preemptions();
    stats.anchor_evictions += planner.anchors().evictions();
    stats.pictures_encoding += planner.features().encoding();
    stats.features_kept += planner.features().size() - planner.features().encoding();
    stats.feature_bytes += planner.features().bytes();
    stats.replicas.push_back(std::move(one));
  }
  if (stats.ready) {
    stats.down_reason.clear();
  } else {
    stats.waiting += std::ssize(requests_);  // nobody has them
  }
  return stats;
}

}  // namespace fulger
