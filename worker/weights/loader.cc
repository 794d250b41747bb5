#include "worker/weights/loader.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <mutex>
#include <numeric>
#include <thread>
#include <utility>

#include "base/bounded_queue.h"
#include "base/clock.h"
#include "model/checkpoint/quantize.h"
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

double Elapsed(TimePoint since) { return Seconds(std::chrono::steady_clock::now() - since); }

// Counts and reports over all runs of a load.
struct LoadState {
  const TimePoint start = std::chrono::steady_clock::now();
  int64_t total = 0;
  int64_t reported = 0;
  LoadStats stats;
};

absl::Status Report(const LoadOptions& options, LoadState& state) {
  state.reported = state.stats.bytes_used;
  if (!options.progress) return absl::OkStatus();
  const double seconds = Elapsed(state.start);
  const LoadProgress progress{
      .bytes_done = state.reported,
      .bytes_total = state.total,
      .bytes_per_second = seconds > 0 ? static_cast<double>(state.reported) / seconds : 0};
  if (options.progress(progress)) return absl::OkStatus();
  return Cancelled("loading abandoned after {} of {} bytes", state.reported, state.total);
}

// Reader threads take pieces in order; the calling thread copies what they staged, counts and reports.
class LoadRun {
 public:
  // `to_host`: the targets' memory is the host's, whatever the device.
  LoadRun(const std::vector<Piece>& pieces, Device& device, const LoadOptions& options, LoadState& state,
          bool to_host = false)
      : pieces_(pieces),
        device_(device),
        options_(options),
        direct_(to_host || device.host_accessible()),
        state_(state) {}

  absl::Status Run() {
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
    return error_;
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
      std::byte* scales = piece.scale_place();
      if (!direct_) {
        staging = *free_.Pop();  // the calling thread gives every one back, also after a failure
        const auto bytes = static_cast<size_t>(piece.held_bytes() + piece.scale_bytes());
        if (staging->size() < bytes) staging->resize(bytes);
        out = staging->data();
        if (scales != nullptr) scales = out + piece.held_bytes();
      }
      absl::Status s = ReadPiece(piece, scratch, out, scales);
      if (s.ok() && options_.reject_non_finite && scales == nullptr) s = CheckFinite(piece, out);
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
        if (static_cast<double>(state_.stats.bytes_used - state_.reported) <
            kReportEvery * static_cast<double>(state_.total)) {
          continue;
        }
      } else if (done_.closed() && done_.size() == 0) {
        return;
      }
      // The last report is made once all is known to be well.
      if (stop_ || state_.stats.bytes_used >= state_.total) continue;
      if (absl::Status s = Report(options_, state_); !s.ok()) Fail(std::move(s));
    }
  }

  void Finish(const ReadPieceDone& done) {
    const Piece& piece = *done.piece;
    if (done.staging != nullptr) {
      if (!stop_) {
        const auto bytes = static_cast<size_t>(piece.held_bytes());
        const auto scale_bytes = static_cast<size_t>(piece.scale_bytes());
        absl::Status s = device_.CopyToDevice(device_.stream(), done.staging->data(), piece.place(), bytes);
        if (s.ok() && scale_bytes > 0) {
          s = device_.CopyToDevice(device_.stream(), done.staging->data() + bytes, piece.scale_place(),
                                   scale_bytes);
        }
        if (s.ok()) s = device_.stream().Synchronize();
        if (!s.ok()) Fail(Annotate(s, "tensor " + piece.target->spec->name));
      }
      free_.Push(done.staging);
    }
    state_.stats.used[static_cast<size_t>(piece.target->spec->component)] += piece.used_bytes();
    state_.stats.bytes_used += piece.used_bytes();
    state_.stats.bytes_read += piece.read_bytes();
    if (!piece.target->sums.empty()) state_.stats.bytes_verified += piece.read_bytes();
  }

  const std::vector<Piece>& pieces_;
  Device& device_;
  const LoadOptions& options_;
  const bool direct_;
  LoadState& state_;

  std::atomic<size_t> next_{0};
  std::atomic<size_t> active_{0};
  std::atomic<bool> stop_{false};
  std::mutex mu_;
  absl::Status error_;  // guarded by mu_ until the readers are joined
  BoundedQueue<ReadPieceDone> done_{1024};
  BoundedQueue<Staging*> free_{4096};
};

// Calls fn(first, last) over rows on several threads.
template <typename F>
void OnThreads(int threads, int64_t rows, F&& fn) {
  const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(rows, 1));
  std::vector<std::thread> pool;
  for (int64_t i = 1; i < parts; ++i) {
    pool.emplace_back([&, i] { fn(rows * i / parts, rows * (i + 1) / parts); });
  }
  fn(0, rows / parts);
  for (std::thread& t : pool) t.join();
}

// A matrix whose rows continue on other ranks: read as it is stored, one matrix at a time, and made int8 once
// the ranks know the largest magnitude of each whole row.
absl::Status LoadSharedRows(const LoadTarget& target, Device& device, const LoadOptions& options,
                            Staging& stored, Staging& staged, LoadState& state) {
  if (!options.reduce_row_maxima) {
    return Internal("tensor {}: its rows are cut and nothing was given to agree on scales with",
                    target.spec->name);
  }
  stored.resize(static_cast<size_t>(target.stored_bytes()));
  LoadTarget as_stored = target;
  as_stored.held = target.stored;
  as_stored.memory = stored.data();
  as_stored.scales = nullptr;
  const std::vector<LoadTarget> targets = {as_stored};
  const std::vector<Piece> pieces = CutPieces(targets, options);
  RETURN_IF_ERROR(LoadRun(pieces, device, options, state, /*to_host=*/true).Run());

  const int64_t row_bytes = target.width * static_cast<int64_t>(ByteSize(target.stored));
  std::vector<float> scales(static_cast<size_t>(target.rows));
  OnThreads(options.threads, target.rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      scales[static_cast<size_t>(r)] =
          LargestMagnitude(stored.data() + r * row_bytes, target.stored, target.width);
    }
  });
  for (int64_t r = 0; r < target.rows; ++r) {
    RETURN_IF_ERROR(CheckMagnitude(target, r, scales[static_cast<size_t>(r)]));
  }
  RETURN_IF_ERROR(options.reduce_row_maxima(*target.spec, scales));
  for (float& s : scales) s = Int8Scale(s);

  const bool direct = device.host_accessible();
  const auto bytes = static_cast<size_t>(target.rows * target.width);
  if (!direct) staged.resize(bytes);
  auto* const out = reinterpret_cast<int8_t*>(direct ? target.memory : staged.data());
  OnThreads(options.threads, target.rows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      ToInt8(stored.data() + r * row_bytes, target.stored, target.width, scales[static_cast<size_t>(r)],
             out + r * target.width);
    }
  });
  if (direct) {
    std::memcpy(target.scales, scales.data(), scales.size() * sizeof(float));
    return absl::OkStatus();
  }
  RETURN_IF_ERROR(device.CopyToDevice(device.stream(), staged.data(), target.memory, bytes));
  RETURN_IF_ERROR(
      device.CopyToDevice(device.stream(), scales.data(), target.scales, scales.size() * sizeof(float)));
  return device.stream().Synchronize();
}

}  // namespace

std::string ToString(const LoadStats& stats) {
  const auto gb = [](int64_t bytes) { return 1e-9 * static_cast<double>(bytes); };
  std::string text = fmt::format("{:.3g} GB read in {:.3g} s, {:.3g} GB/s", gb(stats.bytes_read),
                                 stats.seconds, stats.seconds > 0 ? gb(stats.bytes_read) / stats.seconds : 0);
  if (stats.bytes_verified > 0)
    text += fmt::format(", {:.3g} GB of it checked by checksums", gb(stats.bytes_verified));
  return text;
}

absl::StatusOr<WeightStore> LoadWeights(const WeightSource& source, const RankPlan& rank, Device& device,
                                        const LoadOptions& options, LoadStats* stats) {
  StoreBuilder builder(source, rank, device, options.dtype);
  RETURN_IF_ERROR(builder.Build());
  LoadState state;
  std::vector<LoadTarget> alone, shared;
  for (LoadTarget target : builder.targets()) {
    if (!options.verify) target.sums = {};
    (target.shares_rows ? shared : alone).push_back(target);
    state.total += target.stored_bytes();
  }
  const std::vector<Piece> pieces = CutPieces(alone, options);
  RETURN_IF_ERROR(LoadRun(pieces, device, options, state).Run());
  Staging stored, staged;
  for (const LoadTarget& target : shared) {
    RETURN_IF_ERROR(LoadSharedRows(target, device, options, stored, staged, state));
  }
  RETURN_IF_ERROR(Report(options, state));
  state.stats.seconds = Elapsed(state.start);
  if (stats != nullptr) *stats = state.stats;
  return builder.Take();
}

absl::StatusOr<WeightStore> LoadWeights(const Checkpoint& checkpoint, const RankPlan& rank, Device& device,
                                        const LoadOptions& options, LoadStats* stats) {
  RETURN_IF_ERROR(checkpoint.Complete());
  return LoadWeights(*MakeCheckpointSource(checkpoint), rank, device, options, stats);
}

}  // namespace fulger
