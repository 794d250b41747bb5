#include "tests/support/thread_backend.h"

#include <utility>

namespace fulger {

ThreadBackend::~ThreadBackend() { Stop(); }

absl::Status ThreadBackend::Up(BackendEvents* events) {
  ASSIGN_OR_RETURN(auto replica, ThreadReplica::Start(dir_, layout_, options_));
  events_ = events;
  ThreadReplica* started = replica.get();
  uint64_t epoch = 0;
  {
    std::lock_guard lock(mu_);
    replica_ = std::move(replica);
    epoch = ++epoch_;
  }
  results_ = std::thread([this, started] {
    while (true) {
      auto result = started->NextResult();
      if (!result.ok()) {
        // A rank's own failure is news; that we ended it is not.
        if (result.status().code() != absl::StatusCode::kUnavailable) events_->OnDown(result.status());
        return;
      }
      events_->OnResult(std::make_shared<const v1::StepResult>(*std::move(result)));
    }
  });
  pictures_ = std::thread([this, started, epoch] {
    std::string key;
    while (true) {
      const auto rows = started->NextPicture(&key);
      if (rows.status().code() == absl::StatusCode::kUnavailable) return;
      events_->OnFeaturesReady(epoch, key, rows.status());
    }
  });
  const RunnerOptions& runner = options_.runner;
  events->OnUp(epoch, {.blocks = runner.blocks,
                       .block_size = runner.block_size,
                       .slots = runner.slots,
                       .max_step_tokens = runner.max_step_tokens,
                       .stages = layout_.pp});
  return absl::OkStatus();
}

void ThreadBackend::Stop() {
  std::unique_ptr<ThreadReplica> replica;
  {
    std::lock_guard lock(mu_);
    replica = std::move(replica_);
  }
  if (replica == nullptr) return;
  replica->Stop();
  results_.join();
  pictures_.join();
}

void ThreadBackend::Down(const absl::Status& why) {
  Stop();
  events_->OnDown(why);
}

void ThreadBackend::Submit(std::shared_ptr<const v1::StepPlan> plan) {
  std::lock_guard lock(mu_);
  if (replica_ != nullptr && plan->epoch() == epoch_) replica_->Submit(std::move(plan));
}

void ThreadBackend::Encode(uint64_t epoch, const Pictures& pictures) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  std::vector<Picture> tiles;
  for (const auto& image : pictures) {
    tiles.push_back(
        std::make_shared<PictureTiles>(PictureTiles{.key = image->key,
                                                    .tiles = image->tile_count,
                                                    .height = image->height,
                                                    .width = image->width,
                                                    .pixels = {image->tiles.begin(), image->tiles.end()}}));
  }
  replica_->Encode(std::move(tiles));
}

void ThreadBackend::Evict(uint64_t epoch, const std::vector<std::string>& keys) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  for (const std::string& key : keys) replica_->Evict(key);
}

}  // namespace fulger
