#include "coordinator/engine/fake_backend.h"

#include <algorithm>
#include <utility>

namespace fulger {

void FakeBackend::Up(BackendEvents* events) {
  uint64_t epoch = 0;
  std::deque<std::shared_ptr<const v1::StepResult>> late;
  {
    std::lock_guard lock(mu_);
    CollectViolations();
    epoch = ++epoch_;
    replica_ = std::make_unique<FakeReplica>(capacity_);
    results_.clear();
    late.swap(late_);
    pictures_.clear();
    withdrawn_.clear();
    asked_.clear();
    states_.clear();
    plans_.clear();
  }
  events->OnUp(epoch, capacity_);
  for (auto& result : late) events->OnResult(std::move(result));
}

void FakeBackend::Kill(BackendEvents* events, bool late) {
  {
    std::lock_guard lock(mu_);
    CollectViolations();
    replica_.reset();
    if (late) late_ = results_;
    results_.clear();
    pictures_.clear();
    withdrawn_.clear();
    states_.clear();
  }
  events->OnDown(Unavailable("rank 1 died"));
}

void FakeBackend::CollectViolations() {
  if (replica_ == nullptr) return;
  violations_.insert(violations_.end(), replica_->violations().begin(), replica_->violations().end());
}

void FakeBackend::Submit(std::shared_ptr<const v1::StepPlan> plan) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || plan->epoch() != epoch_) return;  // the engine has not heard yet
  plans_.push_back(plan);
  auto result = std::make_shared<v1::StepResult>(replica_->Run(*plan));
  if (plan->probe() && !probe_error_.empty()) result->add_errors()->set_message(probe_error_);
  results_.push_back(std::move(result));
  work_.notify_one();
}

void FakeBackend::Encode(uint64_t epoch, const Pictures& pictures) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  std::vector<std::string>& keys = together_.emplace_back();
  for (const auto& image : pictures) {
    if (!asked_.insert(image->key).second) violations_.push_back("asked twice to encode " + image->key);
    ++encoded_;
    keys.push_back(image->key);
    pictures_.push_back(image);
  }
  work_.notify_one();
}

void FakeBackend::Withdraw(uint64_t epoch, const std::vector<std::string>& keys) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  for (size_t i = 1; i < pictures_.size(); ++i) {
    const std::string& key = pictures_[i]->key;
    if (std::ranges::find(keys, key) != keys.end()) withdrawn_.insert(key);
  }
}

void FakeBackend::Evict(uint64_t epoch, const std::vector<std::string>& keys) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  for (const std::string& key : keys) {
    asked_.erase(key);
    replica_->Evict(key);
  }
}

namespace {

// The disk: what replicas of any backend have saved. A piece's checksum is its place.
struct FakeDisk {
  std::mutex mu;
  std::vector<std::shared_ptr<const FakeReplica::Kept>> kept;
};
FakeDisk& Disk() {
  static FakeDisk disk;
  return disk;
}

}  // namespace

void FakeBackend::Save(uint64_t epoch, const v1::SaveStates& wanted) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  if (!results_.empty()) violations_.emplace_back("saves with a step in flight");
  states_.emplace_back(wanted);
  work_.notify_one();
}

void FakeBackend::Fetch(uint64_t epoch, const v1::SavedState& state) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  states_.emplace_back(state);
  work_.notify_one();
}

size_t FakeBackend::fetched() const {
  std::lock_guard lock(mu_);
  return replica_ == nullptr ? 0 : replica_->fetched();
}

bool FakeBackend::AnswerState(BackendEvents* events, const std::string& error) {
  std::variant<v1::SaveStates, v1::SavedState> asked;
  {
    std::lock_guard lock(mu_);
    if (states_.empty()) return false;
    asked = std::move(states_.front());
    states_.pop_front();
  }
  if (const auto* wanted = std::get_if<v1::SaveStates>(&asked)) {
    AnswerSave(events, *wanted, error);
  } else {
    AnswerFetch(events, std::get<v1::SavedState>(asked), error);
  }
  return true;
}

// As two ranks; the second one lacks the last state where there is an error.
void FakeBackend::AnswerSave(BackendEvents* events, const v1::SaveStates& wanted, const std::string& error) {
  std::vector<v1::StatesSaved> ranks(2);
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    std::lock_guard disk(Disk().mu);
    epoch = epoch_;
    for (const v1::SaveStates::Sequence& sequence : wanted.sequences()) {
      v1::SavedPiece piece;
      piece.set_sha256(std::to_string(Disk().kept.size()));
      Disk().kept.push_back(
          replica_->Keep(sequence.slot(), {sequence.blocks().begin(), sequence.blocks().end()}));
      for (v1::StatesSaved& rank : ranks) *rank.add_pieces() = piece;
    }
    if (!error.empty()) {
      ranks[1].mutable_pieces()->RemoveLast();
      ranks[1].set_error(error);
    }
  }
  events->OnStatesSaved(epoch, std::move(ranks));
}

void FakeBackend::AnswerFetch(BackendEvents* events, const v1::SavedState& state, const std::string& error) {
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    std::lock_guard disk(Disk().mu);
    epoch = epoch_;
    if (error.empty() && replica_ != nullptr) {
      replica_->Fetched(state.id(), Disk().kept.at(std::stoul(state.pieces(0).sha256())));
    }
  }
  events->OnStateFetched(epoch, state.id(), error.empty() ? absl::OkStatus() : DataLoss("{}", error));
}

bool FakeBackend::AnswerStep(BackendEvents* events) {
  std::shared_ptr<const v1::StepResult> result;
  {
    std::lock_guard lock(mu_);
    if (results_.empty()) return false;
    result = std::move(results_.front());
    results_.pop_front();
    replica_->Answered(result->step());
  }
  events->OnResult(std::move(result));
  return true;
}

bool FakeBackend::AnswerPicture(BackendEvents* events, const absl::Status& wanted) {
  absl::Status status = wanted;
  std::shared_ptr<const PreparedImage> image;
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    if (pictures_.empty()) return false;
    image = std::move(pictures_.front());
    pictures_.pop_front();
    epoch = epoch_;
    if (withdrawn_.erase(image->key) > 0) status = Cancelled("withdrawn");
    if (status.ok()) {
      replica_->FeaturesReady(image->key, image->tokens);
    } else {
      asked_.erase(image->key);
    }
  }
  events->OnFeaturesReady(epoch, image->key, status);
  return true;
}

void FakeBackend::Start(BackendEvents* events, uint64_t seed) {
  thread_ = std::thread([this, events, seed] {
    std::mt19937_64 random(seed);
    while (true) {
      {
        std::unique_lock lock(mu_);
        work_.wait(lock, [this] {
          return stopping_ || !results_.empty() || !pictures_.empty() || !states_.empty();
        });
        if (stopping_) return;
      }
      for (uint64_t pause = random() % 4; pause > 0; --pause) std::this_thread::yield();
      if (random() % 3 == 0) {
        AnswerPicture(events);
        AnswerState(events);
      } else {
        AnswerStep(events);
      }
    }
  });
}

void FakeBackend::Stop() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  work_.notify_all();
  if (thread_.joinable()) thread_.join();
}

bool FakeBackend::idle() const {
  std::lock_guard lock(mu_);
  return results_.empty() && pictures_.empty() && states_.empty();
}

std::vector<std::string> FakeBackend::violations() const {
  std::lock_guard lock(mu_);
  std::vector<std::string> all = violations_;
  if (replica_ != nullptr) {
    all.insert(all.end(), replica_->violations().begin(), replica_->violations().end());
  }
  return all;
}

std::vector<std::shared_ptr<const v1::StepPlan>> FakeBackend::plans() const {
  std::lock_guard lock(mu_);
  return plans_;
}

std::vector<std::vector<std::string>> FakeBackend::asked_together() const {
  std::lock_guard lock(mu_);
  return together_;
}

int64_t FakeBackend::encoded() const {
  std::lock_guard lock(mu_);
  return encoded_;
}

}  // namespace fulger
