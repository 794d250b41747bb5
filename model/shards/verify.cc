#include "model/shards/verify.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "base/clock.h"
#include "model/shards/rank_file.h"
#include "model/shards/threads.h"

namespace fulger {
namespace {

// Stops at the first block that is damaged.
absl::Status CheckTensor(const RankFile& file, const RankTensor& tensor, std::atomic<int64_t>& read) {
  const std::span<const BlockSum> sums = file.sums(tensor);
  std::vector<std::byte> block;
  for (size_t b = 0; b < sums.size(); ++b) {
    const int64_t begin = static_cast<int64_t>(b) * file.block_bytes();
    block.resize(static_cast<size_t>(std::min(file.block_bytes(), tensor.bytes - begin)));
    const uint64_t offset = tensor.offset + static_cast<uint64_t>(begin);
    RETURN_IF_ERROR(file.file().ReadAt(offset, block));
    RETURN_IF_ERROR(CheckBlock(file.file().path(), tensor.name, block, offset, sums[b]));
    read += static_cast<int64_t>(block.size());
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<VerifyReport> VerifyShards(const ShardedCopy& copy, const ShardOptions& options) {
  const TimePoint start = std::chrono::steady_clock::now();
  const auto seconds = [&] { return Seconds(std::chrono::steady_clock::now() - start); };
  VerifyReport report;
  std::atomic<int64_t> read{0};
  int64_t total = 0;
  for (const ShardManifest::Rank& rank : copy.manifest.ranks) total += static_cast<int64_t>(rank.bytes);
  absl::Status stopped;  // the callback's wish
  const auto heartbeat = [&] {
    if (options.progress && !options.progress(MakeShardProgress(0, read, total, seconds()))) {
      stopped = Cancelled("stopped after {} of {} bytes", read.load(), total);
    }
    return stopped;
  };
  for (size_t r = 0; r < copy.plan.ranks.size() && stopped.ok(); ++r) {
    absl::StatusOr<RankFile> file = OpenRankFile(copy, static_cast<int>(r));
    absl::Status status = file.status();
    if (status.ok()) {
      read += static_cast<int64_t>(file->form().tensors.empty() ? 0 : file->form().tensors.front().offset);
      status = RunOnThreads(
          options.threads, file->form().tensors.size(),
          [&](size_t i) { return CheckTensor(*file, file->form().tensors[i], read); }, heartbeat);
    }
    if (!status.ok()) report.damage.push_back(Message(status));
  }
  RETURN_IF_ERROR(stopped);
  report.bytes = static_cast<uint64_t>(read.load());
  report.seconds = seconds();
  return report;
}

}  // namespace fulger
