// Replica: pictures, to the ranks that encode them.
#include <algorithm>

#include "coordinator/cluster/replica.h"

namespace fulger {
namespace {

constexpr size_t kTilesPartBytes = size_t{1} << 20;

}  // namespace

int Replica::EncoderRankLocked(const std::string& key) const {
  const Layout& layout = plan_.layout;
  return layout.vision == 0 ? 0 : layout.pp * layout.tp + VisionRankOf(key, layout.vision);
}

void Replica::Encode(uint64_t epoch, const Pictures& pictures) {
  std::lock_guard lock(mu_);
  if (phase_ != ReplicaPhase::kServing || epoch != epoch_) return;
  const bool together = plan_.layout.vision == 0;  // vision ranks see for themselves what waits
  for (size_t i = 0; i < pictures.size(); ++i) {
    SendTilesLocked(*pictures[i], together && i + 1 < pictures.size());
  }
}

void Replica::SendTilesLocked(const PreparedImage& image, bool more) {
  const auto member = members_.find(EncoderRankLocked(image.key));
  if (member == members_.end()) return;
  for (size_t offset = 0; offset < image.tiles.size(); offset += kTilesPartBytes) {
    const size_t count = std::min(kTilesPartBytes, image.tiles.size() - offset);
    auto message = NewMessageLocked();
    v1::TilesPart* part = message->mutable_tiles();
    part->set_key(image.key);
    part->set_tiles(image.tile_count);
    part->set_height(image.height);
    part->set_width(image.width);
    part->set_offset(static_cast<int64_t>(offset));
    part->set_data(image.tiles.data() + offset, count);
    part->set_last(offset + count == image.tiles.size());
    part->set_more(more);
    member->second.connection->Send(message);
  }
}

// What stage 0 was given is a pass already.
void Replica::Withdraw(uint64_t epoch, const std::vector<std::string>& keys) {
  std::lock_guard lock(mu_);
  if (phase_ != ReplicaPhase::kServing || epoch != epoch_ || plan_.layout.vision == 0) return;
  for (const std::string& key : keys) {
    const auto member = members_.find(EncoderRankLocked(key));
    if (member == members_.end()) continue;
    auto message = NewMessageLocked();
    message->mutable_withdraw()->add_keys(key);
    member->second.connection->Send(message);
  }
}

void Replica::Evict(uint64_t epoch, const std::vector<std::string>& keys) {
  std::lock_guard lock(mu_);
  if (phase_ != ReplicaPhase::kServing || epoch != epoch_ || keys.empty()) return;
  auto message = NewMessageLocked();
  for (const std::string& key : keys) message->mutable_evict()->add_keys(key);
  SendToStagesLocked(message);
}

}  // namespace fulger
