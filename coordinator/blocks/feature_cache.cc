#include "coordinator/blocks/feature_cache.h"

#include <limits>
#include <tuple>

#include "base/check.h"

namespace fulger {
namespace {
constexpr size_t kNotNeeded = std::numeric_limits<size_t>::max();
}

FeatureCache::Changes FeatureCache::Update(std::span<const FeatureNeed> needs) {
  Ranks ranks;
  for (size_t i = 0; i < needs.size(); ++i) ranks.emplace(needs[i].key, i);
  Changes changes;
  Withdraw(ranks, &changes);
  if (limits_.pass_tiles > 0 && encoding_ > 0) return changes;
  int64_t tiles = 0;
  for (size_t i = 0; i < needs.size() && encoding_ < limits_.encoding; ++i) {
    if (entries_.contains(needs[i].key)) continue;
    tiles += needs[i].tiles;
    if (limits_.pass_tiles > 0 && !changes.encode.empty() && tiles > limits_.pass_tiles) break;
    const int64_t bytes = needs[i].rows * limits_.row_bytes;
    // In order, and none past the first that has to wait: or later pictures would take the room it waits for.
    if (!MakeRoom(bytes, i, ranks, changes.evict)) break;
    entries_[needs[i].key] = Entry{.bytes = bytes, .used = ++tick_};
    bytes_ += bytes;
    ++encoding_;
    changes.encode.push_back(i);
  }
  return changes;
}

void FeatureCache::Withdraw(const Ranks& ranks, Changes* changes) {
  if (encoding_ == 0) return;
  for (auto& [key, entry] : entries_) {
    if (entry.ready || entry.withdrawn || ranks.contains(key)) continue;
    entry.withdrawn = true;
    changes->withdraw.push_back(key);
  }
}

bool FeatureCache::MakeRoom(int64_t bytes, size_t rank, const Ranks& ranks,
                            std::vector<std::string>& evicted) {
  if (bytes > limits_.bytes) return false;
  while (bytes_ + bytes > limits_.bytes) {
    const auto victim = Victim(rank, ranks);
    if (victim == entries_.end()) return false;
    bytes_ -= victim->second.bytes;
    evicted.push_back(victim->first);
    entries_.erase(victim);
  }
  return true;
}

// Among those that may go: needed last (or not at all) first, then least recently used.
FeatureCache::Entries::iterator FeatureCache::Victim(size_t rank, const Ranks& ranks) {
  auto best = entries_.end();
  std::tuple<size_t, uint64_t> best_score;
  for (auto it = entries_.begin(); it != entries_.end(); ++it) {
    if (!it->second.ready || it->second.last_step > done_) continue;
    const auto need = ranks.find(it->first);
    const size_t needed = need == ranks.end() ? kNotNeeded : need->second;
    if (needed < rank) continue;
    const std::tuple score(kNotNeeded - needed, it->second.used);
    if (best == entries_.end() || score < best_score) {
      best = it;
      best_score = score;
    }
  }
  return best;
}

bool FeatureCache::Ready(const std::string& key) const {
  const auto it = entries_.find(key);
  return it != entries_.end() && it->second.ready;
}

bool FeatureCache::Encoded(const std::string& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.ready) return false;
  it->second.ready = true;
  --encoding_;
  return true;
}

bool FeatureCache::Failed(const std::string& key) {
  const auto it = entries_.find(key);
  if (it == entries_.end() || it->second.ready) return false;
  const bool withdrawn = it->second.withdrawn;
  bytes_ -= it->second.bytes;
  --encoding_;
  entries_.erase(it);
  return !withdrawn;
}

void FeatureCache::UsedBy(const std::string& key, uint64_t step) {
  const auto it = entries_.find(key);
  FULGER_CHECK(it != entries_.end() && it->second.ready, "features named by step {} are not ready", step);
  it->second.last_step = step;
  it->second.used = ++tick_;
}

}  // namespace fulger
