#include "tests/support/thread_backend.h"

#include <algorithm>
#include <utility>

#include "tests/support/golden_checkpoint.h"

namespace fulger {

std::vector<ImageSpan> GoldenImages(const golden::ModelCase& golden, const DriverRequest& request,
                                    int64_t tile_side) {
  std::vector<ImageSpan> images;
  for (size_t i = 0; i < request.pictures.size(); ++i) {
    PictureTiles tiles = GoldenPicture(golden.images()[i], tile_side, i);
    images.push_back({.position = request.pictures[i].position,
                      .image = std::make_shared<PreparedImage>(
                          PreparedImage{.key = tiles.key,
                                        .tiles = {tiles.pixels.begin(), tiles.pixels.end()},
                                        .tile_count = tiles.tiles,
                                        .height = tiles.height,
                                        .width = tiles.width,
                                        .tokens = request.pictures[i].rows})});
  }
  return images;
}

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

namespace {

// What the ranks say, until the last one has.
template <typename T>
struct Gathered {
  explicit Gathered(int ranks) : said(static_cast<size_t>(ranks)), left(ranks) {}
  // True: these were the last words.
  bool Say(int rank, T what) {
    std::lock_guard lock(mu);
    said[static_cast<size_t>(rank)] = std::move(what);
    return --left == 0;
  }
  std::mutex mu;
  std::vector<T> said;
  int left;
};

}  // namespace

void ThreadBackend::Save(uint64_t epoch, const v1::SaveStates& wanted) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  auto all = std::make_shared<Gathered<v1::StatesSaved>>(replica_->layer_ranks());
  replica_->Save(wanted, [events = events_, epoch, all](int rank, v1::StatesSaved saved) {
    if (all->Say(rank, std::move(saved))) events->OnStatesSaved(epoch, all->said);
  });
}

void ThreadBackend::Fetch(uint64_t epoch, const v1::SavedState& state) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  auto all = std::make_shared<Gathered<absl::Status>>(replica_->layer_ranks());
  replica_->Fetch(state,
                  [events = events_, epoch, id = state.id(), all](int rank, const absl::Status& status) {
                    if (!all->Say(rank, status)) return;
                    const auto failed = std::ranges::find_if_not(all->said, &absl::Status::ok);
                    events->OnStateFetched(epoch, id, failed == all->said.end() ? absl::OkStatus() : *failed);
                  });
}

void ThreadBackend::Evict(uint64_t epoch, const std::vector<std::string>& keys) {
  std::lock_guard lock(mu_);
  if (replica_ == nullptr || epoch != epoch_) return;
  for (const std::string& key : keys) replica_->Evict(key);
}

}  // namespace fulger
