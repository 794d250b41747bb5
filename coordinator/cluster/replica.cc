#include "coordinator/cluster/replica.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"

namespace fulger {
namespace {

constexpr uint64_t kJoinPing = UINT64_MAX;  // of one member alone; the others are numbered from 1

}  // namespace

std::string_view Name(ReplicaPhase phase) {
  switch (phase) {
    case ReplicaPhase::kGathering:
      return "waiting for workers";
    case ReplicaPhase::kLoading:
      return "loading";
    case ReplicaPhase::kServing:
      return "serving";
    case ReplicaPhase::kStopped:
      return "stopped";
  }
  return "?";
}

Replica::Replica(Plan plan, ReplicaOptions options, const Clock* clock)
    : plan_(std::move(plan)),
      options_(std::move(options)),
      clock_(clock),
      roster_(plan_.layout.ranks(), options_.version, options_.transport, options_.gpus),
      phase_since_(clock->Now()) {}

std::shared_ptr<v1::CoordinatorMessage> Replica::NewMessageLocked() const {
  auto message = std::make_shared<v1::CoordinatorMessage>();
  message->set_epoch(epoch_);
  return message;
}

std::string Replica::DescribeRank(int rank) const {
  const v1::Hello* hello = roster_.Find(rank);
  if (hello == nullptr) return fmt::format("rank {}", rank);
  return fmt::format("rank {} ({})", rank, Where(*hello));
}

int Replica::RankOfLocked(const std::shared_ptr<WorkerConnection>& connection) const {
  for (const auto& [rank, member] : members_) {
    if (member.connection == connection) return rank;
  }
  return -1;
}

// Index 0 of each stage and the vision ranks: index 0 forwards to its stage.
void Replica::SendToStagesLocked(const std::shared_ptr<const v1::CoordinatorMessage>& message) {
  for (const auto& [rank, member] : members_) {
    const RankPlan& plan = plan_.ranks[static_cast<size_t>(rank)];
    if (plan.vision_only || plan.index == 0) member.connection->Send(message);
  }
}

void Replica::Submit(std::shared_ptr<const v1::StepPlan> plan) {
  std::lock_guard lock(mu_);
  if (phase_ != ReplicaPhase::kServing || plan->epoch() != epoch_) return;
  steps_in_flight_.emplace(plan->step(), clock_->Now());
  last_submitted_ = plan->step();
  auto message = NewMessageLocked();
  *message->mutable_plan() = *plan;
  message->mutable_plan()->set_trace(listener_ != nullptr);
  SendToStagesLocked(message);
}

void Replica::SetTimingListener(TimingListener* listener) {
  std::lock_guard lock(mu_);
  listener_ = listener;
}

void Replica::OnMessage(const std::shared_ptr<WorkerConnection>& from, const v1::WorkerMessage& message) {
  if (message.has_hello()) {
    OnHello(from, message.hello());
    return;
  }
  std::shared_ptr<const v1::StepResult> result;
  std::unique_lock lock(mu_);
  const int rank = RankOfLocked(from);
  // A rank that has not been told its place yet knows no epoch, and answers pings.
  const bool newcomer = message.has_pong() && message.epoch() == 0;
  if (rank < 0 || (message.epoch() != epoch_ && !newcomer)) return;  // of an earlier life
  Member& member = members_.at(rank);
  switch (message.body_case()) {
    case v1::WorkerMessage::kProgress:
      if (message.progress().phase() == v1::PHASE_LOAD && member.progress.phase() != v1::PHASE_LOAD) {
        member.load_since = clock_->Now();
      }
      member.progress = message.progress();
      member.last_progress = clock_->Now();
      break;
    case v1::WorkerMessage::kReady: {
      lock.unlock();
      OnReady(rank, message.ready());
      break;
    }
    case v1::WorkerMessage::kResult:
      steps_in_flight_.erase(message.result().step());
      last_answered_ = message.result().step();
      last_activity_ = clock_->Now();
      result = std::make_shared<v1::StepResult>(message.result());
      lock.unlock();
      events_->OnResult(std::move(result));
      break;
    case v1::WorkerMessage::kFeaturesReady: {
      const uint64_t epoch = epoch_;
      lock.unlock();
      const v1::FeaturesReady& ready = message.features_ready();
      events_->OnFeaturesReady(epoch, ready.key(),
                               ready.error().empty() ? absl::OkStatus() : DataLoss("{}", ready.error()));
      break;
    }
    case v1::WorkerMessage::kStatesSaved: {
      const uint64_t epoch = epoch_;
      std::vector<v1::StatesSaved> all;
      if (!OnStatesSavedLocked(rank, message.states_saved(), &all)) break;
      lock.unlock();
      events_->OnStatesSaved(epoch, std::move(all));
      break;
    }
    case v1::WorkerMessage::kStateFetched: {
      const uint64_t epoch = epoch_;
      absl::Status all;
      if (!OnStateFetchedLocked(rank, message.state_fetched(), &all)) break;
      lock.unlock();
      events_->OnStateFetched(epoch, message.state_fetched().id(), all);
      break;
    }
    case v1::WorkerMessage::kFailed: {
      const std::string why = fmt::format("{} failed during {}: {}", DescribeRank(rank),
                                          PhaseName(message.failed().phase()), message.failed().message());
      lock.unlock();
      Fail(Unavailable("{}", why));
      break;
    }
    case v1::WorkerMessage::kTiming:
      OnTimingLocked(rank, message.timing());
      break;
    case v1::WorkerMessage::kPong:
      OnPongLocked(rank, message.pong());
      break;
    default:
      break;
  }
}

void Replica::OnTimingLocked(int rank, const v1::RankTiming& timing) {
  RankTimes& times = times_[rank];
  times.link_bytes += timing.link_bytes();
  times.collective_bytes += timing.collective_bytes();
  if (timing.encode()) {
    times.pictures += static_cast<uint64_t>(timing.pictures());
    times.tiles += static_cast<uint64_t>(timing.tiles());
    ++times.passes;
    times.encode += timing.total_seconds();
  } else {
    ++times.steps;
    times.total += timing.total_seconds();
    times.wait += timing.wait_seconds();
    times.collective += timing.collective_seconds();
    times.idle += timing.idle_seconds();
  }
  times.expert_rows.resize(
      std::max(times.expert_rows.size(), static_cast<size_t>(timing.expert_rows_size())));
  for (int i = 0; i < timing.expert_rows_size(); ++i) {
    times.expert_rows[static_cast<size_t>(i)] += timing.expert_rows(i);
  }
  if (listener_ != nullptr) {
    listener_->OnTiming(options_.name, epoch_, timing, members_.at(rank).clock_offset);
  }
}

// The rank read its clock some time between the ping and now. What is less than that time apart is the same
// clock, as far as one can tell.
void Replica::OnPongLocked(int rank, const v1::Pong& pong) {
  const TimePoint now = clock_->Now();
  Member* const member = &members_.at(rank);
  if (member->skew.Answered(pong.id(), now, pong.wall_seconds()) &&
      member->skew.skew().at_least() >= kSkewNamed &&
      skewed_hosts_.insert(roster_.Find(rank)->host()).second) {
    LogWarn("{}: its clock is {}: {}", DescribeRank(rank), DescribeSkew(member->skew.skew()),
            SkewConsequence(member->skew.skew()));
  }
  if (pong.id() == kJoinPing) return;
  const bool done = phase_ == ReplicaPhase::kServing && pong.last_step() >= last_submitted_;
  if (done || member->activity != pong.activity() || member->last_step != pong.last_step()) {
    member->last_progress = now;
  }
  member->activity = pong.activity();
  member->last_step = pong.last_step();
  const double took = Seconds(now - last_ping_);
  if (pong.id() != pings_ || took >= member->shortest_ping) return;
  member->shortest_ping = took;
  const double offset = Seconds(now.time_since_epoch()) - took / 2 - pong.clock_seconds();
  member->clock_offset = std::abs(offset) <= took ? 0 : offset;
}

void Replica::OnHello(const std::shared_ptr<WorkerConnection>& from, const v1::Hello& hello) {
  std::lock_guard lock(mu_);
  absl::StatusOr<int> rank = FailedPrecondition("this coordinator is stopping");
  if (phase_ == ReplicaPhase::kGathering) {
    rank = roster_.Admit(hello);
  } else if (phase_ != ReplicaPhase::kStopped) {
    rank = ResourceExhausted("worker on {} is one too many: all {} ranks of the layout have joined",
                             Where(hello), plan_.layout.ranks());
  }
  if (!rank.ok()) {
    LogError("refused: {}", Message(rank.status()));
    last_failure_ = Message(rank.status());
    auto message = NewMessageLocked();
    message->mutable_shutdown()->set_reason(Message(rank.status()));
    from->Send(message);
    from->Finish();
    return;
  }
  if (members_.empty()) phase_since_ = clock_->Now();
  Member& member = members_[*rank];
  member.connection = from;
  member.last_progress = clock_->Now();
  PingLocked(&member, kJoinPing);
  LogInfo("{} joined, {}; {}", DescribeRank(*rank), hello.device(), roster_.Describe());
  if (roster_.complete()) AssignAllLocked();
}

void Replica::AssignAllLocked() {
  phase_ = ReplicaPhase::kLoading;
  phase_since_ = clock_->Now();
  for (auto& [rank, member] : members_) {
    auto message = NewMessageLocked();
    v1::Assign* assign = message->mutable_assign();
    assign->set_replica(options_.name);
    assign->set_rank(rank);
    const Layout& layout = plan_.layout;
    v1::LayoutSpec* spec = assign->mutable_layout();
    spec->set_pp(layout.pp);
    spec->set_tp(layout.tp);
    spec->set_ep(layout.ep);
    spec->set_dp(layout.dp);
    spec->set_vision(layout.vision);
    for (const int n : layout.stage_layers) spec->add_stage_layers(n);
    spec->set_experts(std::string(Name(layout.experts)));
    spec->set_projections(std::string(Name(layout.projections)));
    assign->set_plan_hash(plan_.hash);
    for (int r = 0; r < layout.ranks(); ++r) assign->add_peer_addresses(roster_.Find(r)->peer_address());
    assign->set_block_size(static_cast<int32_t>(options_.block_size));
    assign->set_max_step_tokens(static_cast<int32_t>(options_.max_step_tokens));
    assign->set_max_sequences(static_cast<int32_t>(options_.max_sequences));
    assign->set_cache_tokens(options_.cache_tokens);
    assign->set_min_cache_tokens(options_.min_cache_tokens);
    assign->set_min_sequences(static_cast<int32_t>(options_.min_sequences));
    assign->set_reserve_bytes(options_.reserve_bytes);
    assign->set_max_context(options_.max_context);
    assign->set_model_dir(options_.model_dir);
    assign->set_fingerprint(options_.fingerprint);
    assign->set_transport(options_.transport);
    assign->set_weight_dtype(options_.weight_dtype);
    member.last_progress = clock_->Now();
    member.connection->Send(message);
  }
}

void Replica::OnReady(int rank, const v1::Ready& ready) {
  absl::Status problem;
  {
    std::lock_guard lock(mu_);
    const auto it = members_.find(rank);
    if (phase_ != ReplicaPhase::kLoading || it == members_.end()) return;
    if (ready.plan_hash() != plan_.hash) {
      problem =
          FailedPrecondition("{} made plan {}, the coordinator's is {}: its config.json or program differs",
                             DescribeRank(rank), ready.plan_hash().substr(0, 12), plan_.hash.substr(0, 12));
    } else if (const absl::Status other = CheckArithmeticLocked(rank, ready); !other.ok()) {
      problem = other;
    } else {
      it->second.ready = true;
      it->second.details = ready;
      it->second.progress.set_phase(v1::PHASE_READY);
      it->second.progress.set_fraction(1);
      LogInfo("{} is ready: {}", DescribeRank(rank), ready.description());
      const bool all =
          std::all_of(members_.begin(), members_.end(), [](const auto& m) { return m.second.ready; });
      if (all) StartServingLocked();
    }
  }
  if (!problem.ok()) Fail(problem);
}

// Ranks of a stage route alike only when their kernels round alike.
absl::Status Replica::CheckArithmeticLocked(int rank, const v1::Ready& ready) const {
  for (const auto& [other, member] : members_) {
    if (!member.ready || member.details.arithmetic() == ready.arithmetic()) continue;
    return FailedPrecondition(
        "{} computes with {} arithmetic ({}), {} with {}: the ranks of a replica must agree; start every "
        "worker with the same --kernels",
        DescribeRank(rank), ready.arithmetic(), ready.description(), DescribeRank(other),
        member.details.arithmetic());
  }
  return absl::OkStatus();
}

void Replica::StartServingLocked() {
  capacity_ = {.blocks = INT64_MAX,
               .block_size = options_.block_size,
               .slots = INT64_MAX,
               .max_step_tokens = options_.max_step_tokens,
               .stages = plan_.layout.pp};
  for (const auto& [rank, member] : members_) {
    if (plan_.ranks[static_cast<size_t>(rank)].vision_only) continue;
    capacity_.blocks = std::min<int64_t>(capacity_.blocks, member.details.blocks());
    capacity_.slots = std::min<int64_t>(capacity_.slots, member.details.slots());
  }
  phase_ = ReplicaPhase::kServing;
  ever_served_ = true;
  phase_since_ = clock_->Now();
  steps_in_flight_.clear();
  last_submitted_ = last_answered_ = 0;
  last_activity_ = phase_since_;
  for (auto& [rank, member] : members_) member.last_progress = phase_since_;
  LogInfo("replica {} is serving: {}, epoch {}, {} tokens of cache, {} sequences", options_.name,
          ToString(plan_.layout), epoch_, capacity_.blocks * capacity_.block_size, capacity_.slots);
  events_->OnUp(epoch_, capacity_);
  events_->OnProbeDue(epoch_);
}

void Replica::OnClosed(const std::shared_ptr<WorkerConnection>& from) {
  std::string who;
  {
    std::lock_guard lock(mu_);
    const int rank = RankOfLocked(from);
    if (rank < 0) return;
    who = DescribeRank(rank);
    if (phase_ == ReplicaPhase::kStopped) {
      members_.erase(rank);
      return;
    }
    if (phase_ == ReplicaPhase::kGathering) {
      members_.erase(rank);
      roster_.Remove(rank);
      LogWarn("{} left before all ranks had joined; {}. Likely: {}", who, roster_.Describe(),
              GoneAdvice(v1::PHASE_RENDEZVOUS));
      return;
    }
    const Member& member = members_.at(rank);
    const bool starting = phase_ == ReplicaPhase::kLoading;
    who += starting ? fmt::format(" is gone in phase {}", PhaseName(PhaseOf(member))) : " is gone";
    if (!member.activity.empty()) who += fmt::format("; last seen in: {}", member.activity);
    if (starting) who += fmt::format(". Likely: {}", GoneAdvice(PhaseOf(member)));
  }
  Fail(Unavailable("{}", who));
}

void Replica::Fail(const absl::Status& why) {
  {
    std::lock_guard lock(mu_);
    if (phase_ == ReplicaPhase::kStopped) return;
    LogError("replica {} ended: {}", options_.name, Message(why));
    last_failure_ = Message(why);
    auto message = NewMessageLocked();
    message->mutable_shutdown()->set_reason(Message(why));
    for (auto& [rank, member] : members_) {
      member.connection->Send(message);
      member.connection->Finish();
    }
    members_.clear();
    roster_.Clear();
    skewed_hosts_.clear();
    ++epoch_;
    ++restarts_;
    if (phase_ != ReplicaPhase::kServing) ++start_failures_;
    phase_ = ReplicaPhase::kGathering;
    phase_since_ = clock_->Now();
    steps_in_flight_.clear();
    saved_.clear();
    fetching_.clear();
    events_->OnDown(why);  // under the mutex, as OnUp: the next epoch cannot overtake it
  }
  if (on_failure_) on_failure_(why);
}

void Replica::Stop(const std::string& reason) {
  std::lock_guard lock(mu_);
  auto message = NewMessageLocked();
  message->mutable_shutdown()->set_reason(reason);
  message->mutable_shutdown()->set_clean(true);
  for (auto& [rank, member] : members_) {
    member.connection->Send(message);
    member.connection->Finish();
  }
  phase_ = ReplicaPhase::kStopped;
}

void Replica::PingLocked(Member* member, uint64_t id) const {
  auto message = NewMessageLocked();
  message->mutable_ping()->set_id(id);
  member->skew.Asked(id, clock_->Now(), options_.wall_seconds());
  member->connection->Send(message);
}

void Replica::Tick() {
  absl::Status problem;
  {
    std::lock_guard lock(mu_);
    ++pings_;
    last_ping_ = clock_->Now();
    for (auto& [rank, member] : members_) PingLocked(&member, pings_);
    problem = CheckDeadlinesLocked();
    const bool idle = phase_ == ReplicaPhase::kServing && steps_in_flight_.empty() &&
                      clock_->Now() - last_activity_ >= options_.probe_interval;
    if (problem.ok() && idle) {
      last_activity_ = clock_->Now();
      events_->OnProbeDue(epoch_);
    }
  }
  if (!problem.ok()) Fail(problem);
}

// A member has joined, whatever it has said since.
v1::Phase Replica::PhaseOf(const Member& member) {
  return std::max(member.progress.phase(), v1::PHASE_RENDEZVOUS);
}

// Whether it is this rank alone or all of them.
std::string Replica::OthersLocked(int rank) const {
  std::map<v1::Phase, std::vector<int>> phases;
  for (const auto& [other, member] : members_) {
    if (other != rank) phases[PhaseOf(member)].push_back(other);
  }
  if (phases.empty()) return "it is the only rank";
  std::string text;
  for (const auto& [phase, ranks] : phases) {
    text += fmt::format("{}{}: {}", text.empty() ? "the others: " : ", ", PhaseName(phase),
                        fmt::join(ranks, " "));
  }
  return text;
}

absl::Status Replica::CheckDeadlinesLocked() const {
  const TimePoint now = clock_->Now();
  switch (phase_) {
    case ReplicaPhase::kGathering:
      // Without any worker nothing is wrong yet: somebody may start them later.
      if (members_.empty()) {
        if (options_.startup.launch > Duration(0) && now - phase_since_ > options_.startup.launch) {
          return DeadlineExceeded("launch: after {:.0f} s {}. Likely: {}", Seconds(now - phase_since_),
                                  roster_.Describe(), StandsStillAdvice(v1::PHASE_UNSPECIFIED));
        }
      } else if (now - phase_since_ > options_.startup.rendezvous) {
        return DeadlineExceeded("rendezvous: after {:.0f} s {}. Likely: {}", Seconds(now - phase_since_),
                                roster_.Describe(), StandsStillAdvice(v1::PHASE_RENDEZVOUS));
      }
      break;
    case ReplicaPhase::kLoading:
      for (const auto& [rank, member] : members_) {
        const v1::Phase phase = PhaseOf(member);
        if (member.ready || now - member.last_progress <= options_.startup.Of(phase)) continue;
        return DeadlineExceeded("{} made no progress for {:.0f} s in phase {}{}; {}. Likely: {}",
                                DescribeRank(rank), Seconds(now - member.last_progress), PhaseName(phase),
                                member.activity.empty() ? "" : fmt::format(" ({})", member.activity),
                                OthersLocked(rank), StandsStillAdvice(phase));
      }
      break;
    case ReplicaPhase::kServing:
      if (!steps_in_flight_.empty() && now - steps_in_flight_.begin()->second > options_.step_deadline) {
        std::string text;
        for (const auto& [rank, member] : members_) {
          text +=
              fmt::format("; {}: {}", DescribeRank(rank), member.activity.empty() ? "?" : member.activity);
        }
        return DeadlineExceeded("step {} has run for {:.0f} s{}", steps_in_flight_.begin()->first,
                                Seconds(now - steps_in_flight_.begin()->second), text);
      }
      return CheckRanksLocked();
    case ReplicaPhase::kStopped:
      break;
  }
  return absl::OkStatus();
}

// The last stage answers for all ranks that it waits for; not for a vision rank that hangs while nobody needs
// its features.
absl::Status Replica::CheckRanksLocked() const {
  const TimePoint now = clock_->Now();
  // An idle rank moves once a probe interval.
  const Duration deadline = std::max(options_.step_deadline, 2 * options_.probe_interval);
  for (const auto& [rank, member] : members_) {
    if (member.last_step >= last_answered_ || now - member.last_progress <= deadline) continue;
    return DeadlineExceeded(
        "{} has not run step {} (its last is {}) and has been in the same place for {:.0f} s: {}",
        DescribeRank(rank), last_answered_, member.last_step, Seconds(now - member.last_progress),
        member.activity.empty() ? "?" : member.activity);
  }
  return absl::OkStatus();
}

ReplicaInfo Replica::Info() const {
  std::lock_guard lock(mu_);
  ReplicaInfo info{.phase = phase_,
                   .epoch = epoch_,
                   .restarts = restarts_,
                   .start_failures = start_failures_,
                   .ever_served = ever_served_,
                   .last_failure = last_failure_,
                   .capacity = capacity_,
                   .ranks = {}};
  for (int r = 0; r < plan_.layout.ranks(); ++r) {
    RankInfo rank{.rank = r};
    const auto it = members_.find(r);
    const v1::Hello* hello = roster_.Find(r);
    if (it != members_.end() && hello != nullptr) {
      const Member& member = it->second;
      rank.joined = true;
      rank.host = hello->host();
      rank.pid = hello->pid();
      rank.device = hello->device();
      rank.description = member.details.description();
      rank.device_model = member.details.device_model();
      rank.device_bytes = member.details.device_bytes();
      rank.device_free_bytes = member.details.device_free_bytes();
      rank.phase = PhaseName(PhaseOf(member));
      rank.fraction = member.progress.fraction();
      rank.activity = member.activity;
      rank.bytes.insert(member.details.bytes().begin(), member.details.bytes().end());
      rank.bytes_read = member.details.bytes_read();
      rank.load_seconds = member.details.load_seconds();
      rank.skew = member.skew.skew();
      const v1::Phase phase = member.progress.phase();
      rank.load_ratio = phase == v1::PHASE_LOAD ? rank.fraction : phase > v1::PHASE_LOAD ? 1 : 0;
      if (phase == v1::PHASE_LOAD && rank.fraction > 0) {
        rank.load_rate = member.progress.bytes_per_second();
        rank.load_seconds_left =
            Seconds(clock_->Now() - member.load_since) * (1 - rank.fraction) / rank.fraction;
      }
      if (phase_ == ReplicaPhase::kServing || (phase_ == ReplicaPhase::kLoading && !member.ready)) {
        rank.stalled_seconds = Seconds(clock_->Now() - member.last_progress);
      }
    }
    if (const auto times = times_.find(r); times != times_.end()) rank.times = times->second;
    info.ranks.push_back(std::move(rank));
  }
  return info;
}

}  // namespace fulger
