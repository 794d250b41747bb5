#include "coordinator/doctor/examination.h"

#include <algorithm>
#include <utility>

#include "coordinator/doctor/verdict.h"

namespace fulger {
namespace {

constexpr uint64_t kEpoch = 1;
constexpr Duration kPingInterval = std::chrono::seconds(1);
constexpr size_t kMostDoubts = 12;  // pairs
constexpr double kDoubtFactor = 3;  // of a round's time

std::shared_ptr<v1::CoordinatorMessage> NewMessage() {
  auto message = std::make_shared<v1::CoordinatorMessage>();
  message->set_epoch(kEpoch);
  return message;
}

}  // namespace

Examination::Examination(ExaminationOptions options, const Clock* clock)
    : options_(std::move(options)),
      clock_(clock),
      begin_(clock->Now()),
      stage_since_(begin_),
      last_ping_(begin_) {
  if (options_.ranks > 0) record_.ranks.resize(static_cast<size_t>(options_.ranks));
  record_.transport = options_.transport;
}

v1::Phase Examination::PhaseOf(Stage stage) {
  switch (stage) {
    case Stage::kGather:
      return v1::PHASE_RENDEZVOUS;
    case Stage::kLook:
      return v1::PHASE_DEVICE;
    default:
      return v1::PHASE_COMMUNICATORS;
  }
}

std::string Examination::WhoLocked(int rank) const {
  const RankRecord& record = record_.ranks[static_cast<size_t>(rank)];
  return record.joined ? fmt::format("rank {} ({})", rank, Where(record.hello))
                       : fmt::format("rank {}", rank);
}

int Examination::RankOfLocked(const std::shared_ptr<WorkerConnection>& connection) const {
  for (const auto& [rank, member] : members_) {
    if (member.connection == connection) return rank;
  }
  return -1;
}

// In the order of their first ranks; only ranks that still answer.
std::vector<std::vector<int>> Examination::NodesLocked() const {
  std::vector<std::vector<int>> nodes;
  std::map<std::string, size_t> index;
  for (const auto& [rank, member] : members_) {
    if (member.connection == nullptr || !record_.ranks[static_cast<size_t>(rank)].failure.empty()) continue;
    const auto [node, fresh] =
        index.emplace(record_.ranks[static_cast<size_t>(rank)].hello.host(), nodes.size());
    if (fresh) nodes.emplace_back();
    nodes[node->second].push_back(rank);
  }
  return nodes;
}

bool Examination::AllHereLocked() const {
  return members_.size() == record_.ranks.size() &&
         std::all_of(members_.begin(), members_.end(), [this](const auto& one) {
           return one.second.connection != nullptr &&
                  record_.ranks[static_cast<size_t>(one.first)].failure.empty();
         });
}

void Examination::OnMessage(const std::shared_ptr<WorkerConnection>& from, const v1::WorkerMessage& message) {
  std::lock_guard lock(mu_);
  if (message.has_hello()) {
    HelloLocked(from, message.hello());
    return;
  }
  const int rank = RankOfLocked(from);
  if (rank < 0) return;
  Member& member = members_.at(rank);
  if (message.has_pong()) {
    member.activity = message.pong().activity();
    if (member.skew.Answered(message.pong().id(), clock_->Now(), message.pong().wall_seconds())) {
      record_.ranks[static_cast<size_t>(rank)].skew = member.skew.skew();
    }
  } else if (message.has_examined()) {
    AnswerLocked(rank, message.examined());
  }
}

void Examination::HelloLocked(const std::shared_ptr<WorkerConnection>& from, const v1::Hello& hello) {
  if (!roster_.has_value()) {
    if (record_.ranks.empty()) record_.ranks.resize(static_cast<size_t>(std::max(1, hello.world_hint())));
    if (record_.transport.empty())
      record_.transport = record_.ranks.size() == 1 ? "single" : hello.transport();
    roster_.emplace(static_cast<int>(record_.ranks.size()), options_.version, record_.transport);
  }
  absl::StatusOr<int> rank =
      FailedPrecondition("worker on {}: too late, the examination has begun", Where(hello));
  if (stage_ == Stage::kGather) rank = roster_->Admit(hello);
  if (!rank.ok()) {
    record_.refused.push_back(Message(rank.status()));
    auto message = NewMessage();
    message->mutable_shutdown()->set_reason(Message(rank.status()));
    from->Send(message);
    from->Finish();
    return;
  }
  if (members_.empty()) stage_since_ = clock_->Now();
  Member& member = members_[*rank];
  member = {.connection = from, .skew = {}, .activity = {}, .answered = false};
  RankRecord& record = record_.ranks[static_cast<size_t>(*rank)];
  record = {};
  record.joined = true;
  record.hello = hello;
  PingLocked(&member, ++pings_);
  if (roster_->complete()) BeginLocked(Stage::kLook);
}

void Examination::PingLocked(Member* member, uint64_t id) const {
  auto message = NewMessage();
  message->mutable_ping()->set_id(id);
  member->skew.Asked(id, clock_->Now(), options_.wall_seconds());
  member->connection->Send(message);
}

void Examination::AskLocked(int rank, v1::Examine step) {
  Member& member = members_.at(rank);
  member.answered = false;
  asked_.insert(rank);
  step.set_rank(rank);
  auto message = NewMessage();
  *message->mutable_examine() = std::move(step);
  member.connection->Send(message);
}

void Examination::BeginLocked(Stage stage) {
  stage_ = stage;
  stage_since_ = clock_->Now();
  asked_.clear();
  switch (stage) {
    case Stage::kLook:
      LookLocked();
      break;
    case Stage::kReach:
    case Stage::kConnect:
      ReachLocked(stage == Stage::kConnect);
      break;
    case Stage::kMeasure:
      NextRoundLocked();
      break;
    case Stage::kDone:
      record_.seconds = Seconds(clock_->Now() - begin_);
      break;
    case Stage::kGather:
      break;
  }
}

void Examination::LookLocked() {
  const std::vector<std::vector<int>> nodes = NodesLocked();
  for (size_t node = 0; node < nodes.size(); ++node) {
    for (const int rank : nodes[node]) {
      v1::Examine step;
      v1::Look* look = step.mutable_look();
      look->set_node(rank == nodes[node].front());
      look->set_model_dir(options_.model_dir);
      look->set_read_seconds(options_.read_seconds);
      look->set_reader(static_cast<int32_t>(node));
      look->set_readers(static_cast<int32_t>(nodes.size()));
      AskLocked(rank, std::move(step));
    }
  }
}

void Examination::ReachLocked(bool connect) {
  v1::Examine step;
  for (const RankRecord& record : record_.ranks)
    step.mutable_connect()->add_peer_addresses(record.hello.peer_address());
  if (connect) step.mutable_connect()->set_transport(record_.transport);
  step.mutable_connect()->set_seconds(Seconds(options_.round));
  for (const auto& [rank, member] : members_) AskLocked(rank, step);
}

// Ranks whose exchange failed have no part in later rounds: a transport that failed once stays so.
void Examination::NextRoundLocked() {
  asked_.clear();
  stage_since_ = clock_->Now();
  for (;; ++round_) {
    if (round_ == plan_.rounds.size() && !doubted_) PlanDoubtsLocked();
    if (round_ == plan_.rounds.size()) break;
    for (const auto& [one, other] : plan_.rounds[round_]) {
      const auto works = [&](int rank) {
        return members_.at(rank).connection != nullptr &&
               record_.ranks[static_cast<size_t>(rank)].failure.empty();
      };
      if (!works(one) || !works(other)) continue;
      for (const auto& [rank, partner] : {std::pair(one, other), std::pair(other, one)}) {
        v1::Examine step;
        step.mutable_measure()->set_round(static_cast<int32_t>(round_));
        step.mutable_measure()->set_partner(partner);
        step.mutable_measure()->set_seconds(plan_.seconds);
        AskLocked(rank, std::move(step));
      }
    }
    if (!asked_.empty()) return;
  }
  BeginLocked(Stage::kDone);
}

// A busy moment is no bad cable: what was slow is measured once more, alone and for longer, and the better of
// the two counts.
void Examination::PlanDoubtsLocked() {
  doubted_ = true;
  const std::vector<NodeReport> nodes = NodesOf(record_);
  const Ways ways = MakeWays(record_, nodes, /*between=*/true);
  std::set<RankPair> pairs;
  for (const Ways::Way& way : ways.ways) {
    if (!way.outlier && !way.late) continue;
    pairs.insert(std::minmax(nodes[way.from].ranks.front(), nodes[way.to].ranks.front()));
    if (pairs.size() == kMostDoubts) break;
  }
  for (const RankPair& pair : pairs) plan_.rounds.push_back({pair});
  plan_.seconds *= kDoubtFactor;
  record_.rounds = plan_.rounds.size();
}

void Examination::AddWayLocked(const WayRecord& way) {
  for (WayRecord& known : record_.ways) {
    if (!doubted_) break;  // none is measured twice
    if (known.from != way.from || known.to != way.to) continue;
    known.bytes_per_second = std::max(known.bytes_per_second, way.bytes_per_second);
    if (way.latency > 0) known.latency = std::min(known.latency, way.latency);
    return;
  }
  record_.ways.push_back(way);
}

void Examination::AnswerLocked(int rank, const v1::Examined& found) {
  Member& member = members_.at(rank);
  if (stage_ == Stage::kDone || stage_ == Stage::kGather || !asked_.contains(rank) || member.answered) return;
  if (stage_ == Stage::kMeasure && found.round() != static_cast<int32_t>(round_)) return;
  member.answered = true;
  RankRecord& record = record_.ranks[static_cast<size_t>(rank)];
  if (found.has_rank()) record.facts = found.rank();
  if (found.has_node()) record.node = found.node();
  if (found.has_checkpoint()) record.checkpoint = found.checkpoint();
  record.unreachable.insert(record.unreachable.end(), found.unreachable().begin(), found.unreachable().end());
  if (found.has_pair()) {
    const int partner = found.pair().partner();
    AddWayLocked({.from = rank,
                  .to = partner,
                  .latency = found.pair().latency_seconds(),
                  .bytes_per_second = found.pair().bytes_per_second()});
  }
  if (!found.error().empty()) FailLocked(rank, found.error());
  AdvanceLocked();
}

// Names the pair where it happens between two ranks: both will say so, and the first one counts.
void Examination::FailLocked(int rank, const std::string& why) {
  if (stage_ == Stage::kMeasure && round_ < plan_.rounds.size()) {
    for (const auto& [one, other] : plan_.rounds[round_]) {
      if (rank != one && rank != other) continue;
      if (record_.ranks[static_cast<size_t>(one)].failure.empty() &&
          record_.ranks[static_cast<size_t>(other)].failure.empty()) {
        record_.broken.push_back({.one = one, .other = other, .why = why});
      }
    }
  }
  RankRecord& record = record_.ranks[static_cast<size_t>(rank)];
  if (record.failure.empty()) record.failure = why;
}

void Examination::AdvanceLocked() {
  const bool all = std::all_of(asked_.begin(), asked_.end(), [this](int rank) {
    const Member& member = members_.at(rank);
    return member.answered || member.connection == nullptr;
  });
  if (!all) return;
  const bool reached = std::all_of(record_.ranks.begin(), record_.ranks.end(),
                                   [](const RankRecord& record) { return record.unreachable.empty(); });
  switch (stage_) {
    case Stage::kLook:
      if (record_.ranks.size() == 1) {
        BeginLocked(Stage::kDone);
      } else if (!AllHereLocked()) {
        EndLocked("the ways between ranks were not measured: not all ranks are there and well");
      } else {
        BeginLocked(Stage::kReach);
      }
      break;
    case Stage::kReach:
      if (!reached) {
        EndLocked("the ways between ranks were not measured: hosts do not reach each other");
      } else if (!AllHereLocked()) {
        EndLocked("the ways between ranks were not measured: not all ranks are there and well");
      } else {
        BeginLocked(Stage::kConnect);
      }
      break;
    case Stage::kConnect:
      if (!AllHereLocked()) {
        EndLocked("the ways between ranks were not measured: the ranks do not connect");
        break;
      }
      plan_ = PlanRounds(NodesLocked(), options_.measure_seconds);
      record_.rounds = plan_.rounds.size();
      record_.one_pair_at_a_time = plan_.one_pair_at_a_time;
      BeginLocked(Stage::kMeasure);
      break;
    case Stage::kMeasure:
      ++round_;
      record_.rounds_done = round_;
      NextRoundLocked();
      break;
    case Stage::kGather:
    case Stage::kDone:
      break;
  }
}

void Examination::EndLocked(const std::string& why) {
  if (stage_ == Stage::kDone) return;
  if (record_.ended.empty()) record_.ended = why;
  BeginLocked(Stage::kDone);
}

void Examination::OnClosed(const std::shared_ptr<WorkerConnection>& from) {
  std::lock_guard lock(mu_);
  const int rank = RankOfLocked(from);
  if (rank < 0 || stage_ == Stage::kDone) return;
  Member& member = members_.at(rank);
  const std::string why =
      fmt::format("{} is gone in phase {}{}. Likely: {}", WhoLocked(rank), PhaseName(PhaseOf(stage_)),
                  member.activity.empty() ? "" : fmt::format("; last seen in: {}", member.activity),
                  GoneAdvice(PhaseOf(stage_)));
  member.connection = nullptr;
  if (stage_ == Stage::kGather) {
    record_.ranks[static_cast<size_t>(rank)].failure = why;
    members_.erase(rank);
    roster_->Remove(rank);
    return;
  }
  FailLocked(rank, why);
  // With one of its processes MPI's others end as well, which says nothing about them.
  if (stage_ == Stage::kConnect || stage_ == Stage::kMeasure) {
    EndLocked(why);
  } else {
    AdvanceLocked();
  }
}

void Examination::OnLauncherEnded(const std::string& how) {
  std::lock_guard lock(mu_);
  if (stage_ == Stage::kDone) return;
  EndLocked(fmt::format(
      "{} in phase {}. Likely: {}", how,
      PhaseName(members_.empty() ? v1::PHASE_UNSPECIFIED : PhaseOf(stage_)),
      stage_ == Stage::kGather ? StandsStillAdvice(v1::PHASE_UNSPECIFIED) : GoneAdvice(PhaseOf(stage_))));
}

void Examination::Tick() {
  std::lock_guard lock(mu_);
  if (stage_ == Stage::kDone) return;
  const TimePoint now = clock_->Now();
  if (now - last_ping_ >= kPingInterval) {
    last_ping_ = now;
    ++pings_;
    for (auto& [rank, member] : members_) {
      if (member.connection != nullptr) PingLocked(&member, pings_);
    }
  }
  LateLocked();
}

void Examination::LateLocked() {
  const Duration waited = clock_->Now() - stage_since_;
  const auto late = [&](Duration deadline) {
    if (waited <= deadline) return;
    for (const int rank : asked_) {
      Member& member = members_.at(rank);
      if (member.answered || member.connection == nullptr) continue;
      FailLocked(rank, fmt::format("{} gave no answer for {:.0f} s in phase {} ({}). Likely: {}",
                                   WhoLocked(rank), Seconds(waited), PhaseName(PhaseOf(stage_)),
                                   member.activity.empty() ? "it does not say what it does" : member.activity,
                                   StandsStillAdvice(PhaseOf(stage_))));
      member.answered = true;
    }
    AdvanceLocked();
  };
  switch (stage_) {
    case Stage::kGather: {
      const std::string here = roster_.has_value() ? roster_->Describe() : "no rank has joined";
      if (members_.empty() && waited > options_.launch) {
        EndLocked(fmt::format("launch: after {:.0f} s {}. Likely: {}", Seconds(waited), here,
                              StandsStillAdvice(v1::PHASE_UNSPECIFIED)));
      } else if (!members_.empty() && waited > options_.join) {
        record_.ended = fmt::format("rendezvous: after {:.0f} s {}. Likely: {}", Seconds(waited), here,
                                    StandsStillAdvice(v1::PHASE_RENDEZVOUS));
        BeginLocked(Stage::kLook);  // those that are there
      }
      break;
    }
    case Stage::kLook:
      late(options_.look +
           std::chrono::duration_cast<Duration>(std::chrono::duration<double>(options_.read_seconds)));
      break;
    case Stage::kReach:
    case Stage::kConnect:
      late(options_.connect);
      break;
    case Stage::kMeasure:
      // The ranks' own deadline comes first, and names what they waited for.
      late(options_.round + std::chrono::seconds(2));
      break;
    case Stage::kDone:
      break;
  }
}

bool Examination::done() const {
  std::lock_guard lock(mu_);
  return stage_ == Stage::kDone;
}

std::string Examination::Progress() const {
  std::lock_guard lock(mu_);
  size_t answered = 0;
  for (const int rank : asked_) answered += members_.at(rank).answered ? 1 : 0;
  switch (stage_) {
    case Stage::kGather:
      return roster_.has_value() ? roster_->Describe() : "waiting for the first rank";
    case Stage::kLook:
      return fmt::format("{} of {} ranks have looked at their node{}", answered, asked_.size(),
                         options_.model_dir.empty() ? "" : " and the checkpoint");
    case Stage::kReach:
      return fmt::format("{} of {} ranks have reached the other hosts", answered, asked_.size());
    case Stage::kConnect:
      return fmt::format("{} of {} ranks have connected", answered, asked_.size());
    case Stage::kMeasure:
      return fmt::format("measuring the ways between ranks: round {} of {}", round_ + 1, plan_.rounds.size());
    case Stage::kDone:
      return "done";
  }
  return {};
}

ExamRecord Examination::Record() const {
  std::lock_guard lock(mu_);
  return record_;
}

void Examination::Dismiss() {
  std::lock_guard lock(mu_);
  auto message = NewMessage();
  message->mutable_shutdown()->set_reason("the examination is over");
  // Where a rank is not well, MPI cannot be ended in order.
  message->mutable_shutdown()->set_clean(stage_ == Stage::kDone && record_.ended.empty() && AllHereLocked());
  for (auto& [rank, member] : members_) {
    if (member.connection == nullptr) continue;
    member.connection->Send(message);
    member.connection->Finish();
  }
  stage_ = Stage::kDone;
}

}  // namespace fulger
