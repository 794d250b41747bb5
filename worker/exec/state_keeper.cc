#include "worker/exec/state_keeper.h"

#include <chrono>
#include <numeric>
#include <utility>

#include "base/log.h"
#include "worker/cache/state_file.h"
#include "worker/cache/state_parts.h"

namespace fulger {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr auto kLogInterval = std::chrono::seconds(5);

using SteadyTime = std::chrono::steady_clock::time_point;

double SecondsSince(SteadyTime start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string Rate(uint64_t bytes, double seconds) {
  return fmt::format("{:.1f} MB in {:.1f} s", static_cast<double>(bytes) / 1e6, seconds);
}

}  // namespace

v1::StatesSaved StateKeeper::Save(const v1::SaveStates& wanted, const std::string& path) {
  const SteadyTime start = std::chrono::steady_clock::now();
  v1::StatesSaved saved;
  std::vector<v1::SavedPiece> pieces;
  const auto write = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(StateFileWriter file, StateFileWriter::Create(path));
    SteadyTime told = start;
    absl::Status ended;
    for (const v1::SaveStates::Sequence& sequence : wanted.sequences()) {
      const std::vector<int32_t> blocks(sequence.blocks().begin(), sequence.blocks().end());
      ASSIGN_OR_RETURN(const StateParts parts, StateParts::Of(*kv_, *states_, sequence.slot(), blocks));
      ended = parts.CopyOut(*device_, kPieceBytes, [&](std::span<const std::byte> bytes) -> absl::Status {
        const double seconds = SecondsSince(start);
        if (seconds > wanted.seconds()) {
          return DeadlineExceeded("{}: {} of {} sequences in the {:.0f} s that there were ({})", path,
                                  pieces.size(), wanted.sequences_size(), wanted.seconds(),
                                  Rate(file.size(), seconds));
        }
        if (std::chrono::steady_clock::now() - told >= kLogInterval) {
          told = std::chrono::steady_clock::now();
          LogInfo("saving: {} of {} sequences, {}", pieces.size(), wanted.sequences_size(),
                  Rate(file.size(), seconds));
        }
        return file.Write(bytes);
      });
      if (!ended.ok()) break;
      pieces.push_back(file.End());
    }
    RETURN_IF_ERROR(file.Sync());
    LogInfo("saved: {} of {} sequences, {}, {}", pieces.size(), wanted.sequences_size(),
            Rate(file.size(), SecondsSince(start)), path);
    for (v1::SavedPiece& piece : pieces) *saved.add_pieces() = std::move(piece);
    return ended;
  };
  const absl::Status status = write();
  if (!status.ok()) {
    saved.set_error(Message(status));
    LogError("saving: {}", Message(status));
  }
  return saved;
}

absl::Status StateKeeper::Fetch(const v1::SavedState& state, const std::string& path) {
  if (rank_ >= state.pieces_size()) {
    return DataLoss("{}: the manifest has pieces of {} ranks, this is rank {}", path, state.pieces_size(),
                    rank_);
  }
  Fetched fetched{.blocks = (state.position() + kv_->block_size() - 1) / kv_->block_size(), .bytes = {}};
  if (state.position() <= 0 || fetched.blocks > kv_->blocks()) {
    return DataLoss("{}: a state after {} positions, this rank holds {}", path, state.position(),
                    kv_->blocks() * kv_->block_size());
  }
  std::vector<int32_t> any(static_cast<size_t>(fetched.blocks));
  std::iota(any.begin(), any.end(), 0);
  ASSIGN_OR_RETURN(const StateParts shape, StateParts::Of(*kv_, *states_, 0, any));
  ASSIGN_OR_RETURN(fetched.bytes, ReadStatePiece(path, state.pieces(rank_), shape.bytes()));
  fetched_.insert_or_assign(state.id(), std::move(fetched));
  return absl::OkStatus();
}

absl::Status StateKeeper::Restore(uint64_t id, int32_t slot, std::span<const int32_t> blocks) {
  const auto found = fetched_.find(id);
  if (found == fetched_.end()) return Internal("a plan restores state {}, which was not fetched", id);
  const Fetched fetched = std::move(found->second);
  fetched_.erase(found);
  if (std::ssize(blocks) < fetched.blocks) {
    return Internal("a plan restores state {} of {} blocks into {}", id, fetched.blocks, blocks.size());
  }
  ASSIGN_OR_RETURN(const StateParts parts,
                   StateParts::Of(*kv_, *states_, slot, blocks.first(static_cast<size_t>(fetched.blocks))));
  return parts.CopyIn(*device_, fetched.bytes);
}

}  // namespace fulger
