#include "worker/weights/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "base/bounded_queue.h"
#include "base/clock.h"
#include "worker/weights/piece_reader.h"
#include "worker/weights/store_builder.h"

namespace fulger {
namespace {

constexpr auto kHeartbeat = std::chrono::milliseconds(500);
constexpr double kReportEvery = 0.01;  // of the whole

// Host memory that carries one piece to a device whose memory the host cannot write.
using Staging = std::vector<std::byte>;

struct ReadPieceDone {
  const Piece* piece = nullptr;
  Staging* staging = nullptr;  // null: already in place
};

// Reader threads take pieces in order; the calling thread copies what they staged, counts and reports.
class LoadRun {
 public:
  LoadRun(const std::vector<Piece>& pieces, Device& device, const LoadOptions& options)
      : pieces_(pieces), device_(device), options_(options), direct_(device.host_accessible()) {
    for (const Piece& piece : pieces_) total_ += piece.used_bytes();
  }

  absl::StatusOr<LoadStats> Run() {
    const size_t readers =
        std::clamp<size_t>(pieces_.size(), 1, static_cast<size_t>(std::max(1, options_.threads)));
    // Two per reader: one is filled while the other is copied.
    std::vector<Staging> stagings(direct_ ? 0 : 2 * readers);
    for (Staging& s : stagings) free_.Push(&s);
    active_ = readers;
    std::vector<std::thread> threads;
    for (size_t i = 0; i < readers; ++i) threads.emplace_back([this] { ReaderLoop(); });
    Consume();
    for (std::thread& t : threads) t.join();
    RETURN_IF_ERROR(error_);
    Report();
    RETURN_IF_ERROR(error_);
    stats_.seconds = Elapsed();
    return stats_;
  }

 private:
  void Fail(absl::Status status) {
    std::lock_guard lock(mu_);
    if (error_.ok()) error_ = std::move(status);
    stop_ = true;
  }

  void ReaderLoop() {
    std::vector<std::byte> scratch;
    while (!stop_) {
      const size_t i = next_++;
      if (i >= pieces_.size()) break;
      const Piece& piece = pieces_[i];
      Staging* staging = nullptr;
      std::byte* out = piece.place();
      if (!direct_) {
        staging = *free_.Pop();  // the calling thread gives every one back, also after a failure
        if (staging->size() < static_cast<size_t>(piece.held_bytes())) {
          staging->resize(static_cast<size_t>(piece.held_bytes()));
        }
        out = staging->data();
      }
      absl::Status s = ReadPiece(piece, scratch, out);
      if (s.ok() && options_.reject_non_finite) s = CheckFinite(piece, out);
      if (!s.ok()) {
        Fail(std::move(s));
        break;
      }
      done_.Push({&piece, staging});
    }
    if (--active_ == 0) done_.Close();
  }

  // Until the last reader has left; on a failure too, so that none of them waits for ever.
  void Consume() {
    while (true) {
      const std::optional<ReadPieceDone> done = done_.PopFor(kHeartbeat);
      if (done) {
        Finish(*done);
        if (static_cast<double>(stats_.bytes_used - reported_) < kReportEvery * static_cast<double>(total_))
          continue;
      } else if (done_.closed() && done_.size() == 0) {
        return;
      }
      // The last report is made once all is known to be well.
      if (!stop_ && stats_.bytes_used < total_) Report();
    }
  }

  void Finish(const ReadPieceDone& done) {
    const Piece& piece = *done.piece;
    if (done.staging != nullptr) {
      if (!stop_) {
        const auto bytes = static_cast<size_t>(piece.held_bytes());
        absl::Status s = device_.CopyToDevice(device_.stream(), done.staging->data(), piece.place(), bytes);
        if (s.ok()) s = device_.stream().Synchronize();
        if (!s.ok()) Fail(Annotate(s, "tensor " + piece.target->spec->name));
      }
      free_.Push(done.staging);
    }
    stats_.bytes_used += piece.used_bytes();
    stats_.bytes_read += piece.read_bytes();
  }

  void Report() {
    reported_ = stats_.bytes_used;
    if (!options_.progress) return;
    const double seconds = Elapsed();
    const LoadProgress progress{
        .bytes_done = stats_.bytes_used,
        .bytes_total = total_,
        .bytes_per_second = seconds > 0 ? static_cast<double>(stats_.bytes_used) / seconds : 0};
    if (!options_.progress(progress)) {
      Fail(Cancelled("loading abandoned after {} of {} bytes", stats_.bytes_used, total_));
    }
  }

  double Elapsed() const { return Seconds(std::chrono::steady_clock::now() - start_); }

  const std::vector<Piece>& pieces_;
  Device& device_;
  const LoadOptions& options_;
  const bool direct_;
  const TimePoint start_ = std::chrono::steady_clock::now();
  int64_t total_ = 0;
  int64_t reported_ = 0;
  LoadStats stats_;

  std::atomic<size_t> next_{0};
  std::atomic<size_t> active_{0};
  std::atomic<bool> stop_{false};
  std::mutex mu_;
  absl::Status error_;  // guarded by mu_ until the readers are joined
  BoundedQueue<ReadPieceDone> done_{1024};
  BoundedQueue<Staging*> free_{4096};
};

}  // namespace

absl::StatusOr<WeightStore> LoadWeights(const Checkpoint& checkpoint, const RankPlan& rank, Device& device,
                                        const LoadOptions& options, LoadStats* stats) {
  RETURN_IF_ERROR(checkpoint.Complete());
  StoreBuilder builder(checkpoint, rank, device, options.dtype);
  RETURN_IF_ERROR(builder.Build());
  const std::vector<Piece> pieces = CutPieces(builder.targets(), options);
  LoadRun run(pieces, device, options);
  ASSIGN_OR_RETURN(const LoadStats result, run.Run());
  if (stats != nullptr) *stats = result;
  return builder.Take();
}

}  // namespace fulger
