#include "coordinator/text/bpe.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <utility>

namespace fulger {
namespace {

constexpr size_t kShortWord = 32;  // bytes; below, scanning an array beats a heap

constexpr size_t kKeptWord = 64 << 10;

uint64_t Mix(uint64_t h) {
  h *= 0x9E3779B97F4A7C15ULL;
  return h ^ h >> 32;
}

uint64_t HashBytes(std::string_view bytes) {
  uint64_t h = Mix(bytes.size() + 1);
  const char* p = bytes.data();
  size_t n = bytes.size();
  for (; n >= 8; p += 8, n -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    h = Mix(h ^ word);
  }
  uint64_t tail = 0;
  if (n > 0) std::memcpy(&tail, p, n);
  return Mix(h ^ tail);
}

// The first `length` bytes, at most 15, behind `begin`.
template <typename Key>
Key WordKey(std::string_view text, size_t begin, size_t length) {
  std::array<uint64_t, 2> words{};
  if (text.size() - begin >= sizeof(words)) {  // reads on into what follows, then masks it
    std::memcpy(words.data(), text.data() + begin, sizeof(words));
    const uint64_t ones = ~uint64_t{0};
    words[0] &= length >= 8 ? ones : ~(ones << 8 * length);
    words[1] &= length <= 8 ? 0 : ~(ones << 8 * (length - 8));
  } else {
    std::memcpy(words.data(), text.data() + begin, length);
  }
  return {words[0], words[1] | static_cast<uint64_t>(length) << 56};
}

uint32_t HashKey(uint64_t low, uint64_t high) {
  const uint64_t h = (low ^ std::rotl(high * 0x9E3779B97F4A7C15ULL, 32)) * 0xD6E8FEB86659FD93ULL;
  return static_cast<uint32_t>(h >> 32);
}

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t TableSize(size_t entries) { return std::bit_ceil(std::max<size_t>(16, entries * 2)); }

}  // namespace

std::string_view BpeModel::Bytes(int32_t id) const {
  const auto i = static_cast<size_t>(id);
  return std::string_view(bytes_).substr(begin_[i], begin_[i + 1] - begin_[i]);
}

const BpeModel::Slot* BpeModel::FindSlot(std::string_view bytes, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  const auto short_hash = static_cast<uint32_t>(hash >> 32);
  for (size_t i = hash & mask; slots_[i].id >= 0; i = (i + 1) & mask) {
    if (slots_[i].hash == short_hash && Bytes(slots_[i].id) == bytes) return &slots_[i];
  }
  return nullptr;
}

int32_t BpeModel::Find(std::string_view bytes) const {
  const Slot* slot = FindSlot(bytes, HashBytes(bytes));
  return slot == nullptr ? -1 : slot->id;
}

BpeModel::Joined BpeModel::Look(int32_t left, int32_t right) const {
  const uint64_t key = PairKey(left, right);
  const uint64_t hash = Mix(key);
  const uint64_t bit = hash & (pair_filter_.size() * 64 - 1);
  if ((pair_filter_[bit / 64] >> bit % 64 & 1) == 0) return {};
  const size_t mask = pairs_.size() - 1;
  for (size_t i = hash & mask; pairs_[i].joined.result >= 0; i = (i + 1) & mask) {
    if (pairs_[i].key == key) return pairs_[i].joined;
  }
  return {};
}

void BpeModel::AddMerges(std::span<const Merge> merges) {
  pairs_.resize(TableSize(merges.size()));
  pair_filter_.resize(pairs_.size() / 8);
  const size_t mask = pairs_.size() - 1;
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t key = PairKey(merges[rank].left, merges[rank].right);
    const uint64_t hash = Mix(key);
    const uint64_t bit = hash & (pair_filter_.size() * 64 - 1);
    pair_filter_[bit / 64] |= uint64_t{1} << bit % 64;
    size_t i = hash & mask;
    while (pairs_[i].joined.result >= 0 && pairs_[i].key != key) i = (i + 1) & mask;
    // A pair that is listed twice has its last rank, as in the reference.
    pairs_[i] = {key, {static_cast<uint32_t>(rank), merges[rank].result}};
  }
  byte_pairs_.resize(size_t{1} << 16);
  for (size_t i = 0; i < byte_pairs_.size(); ++i)
    byte_pairs_[i] = Look(byte_ids_[i >> 8], byte_ids_[i & 0xFF]);
}

void BpeModel::AddPieces(bool ignore_merges) {
  const size_t count = begin_.size() - 1;
  slots_.resize(TableSize(count));
  const size_t mask = slots_.size() - 1;
  Scratch scratch;
  std::vector<int32_t> ids;
  for (size_t id = 0; id < count; ++id) {
    const std::string_view piece = Bytes(static_cast<int32_t>(id));
    if (piece.empty()) continue;
    bool whole_word = ignore_merges;
    if (!whole_word) {  // most pieces are what merging their own bytes gives; the others must stay
                        // unreachable
      ids.clear();
      Merges(piece, scratch, &ids);
      whole_word = ids.size() == 1 && ids[0] == static_cast<int32_t>(id);
    }
    const uint64_t hash = HashBytes(piece);
    size_t i = hash & mask;
    while (slots_[i].id >= 0) i = (i + 1) & mask;
    slots_[i] = {static_cast<int32_t>(id), static_cast<uint32_t>(hash >> 32), whole_word};
  }
}

absl::StatusOr<BpeModel> BpeModel::Create(Spec spec) {
  static std::atomic<uint64_t> next_serial{1};
  BpeModel model;
  model.serial_ = next_serial.fetch_add(1);
  model.byte_ids_.fill(-1);
  const auto count = static_cast<int32_t>(spec.bytes.size());
  for (int32_t id = 0; id < count; ++id) {
    const std::string& piece = spec.bytes[static_cast<size_t>(id)];
    model.begin_.push_back(static_cast<uint32_t>(model.bytes_.size()));
    model.bytes_ += piece;
    if (piece.size() == 1) model.byte_ids_[static_cast<uint8_t>(piece[0])] = id;
  }
  if (model.bytes_.size() > UINT32_MAX)
    return InvalidArgument("pieces: {} bytes, at most 4 GiB", model.bytes_.size());
  model.begin_.push_back(static_cast<uint32_t>(model.bytes_.size()));
  for (int byte = 0; byte < 256; ++byte) {
    if (model.byte_ids_[static_cast<size_t>(byte)] < 0) {
      return InvalidArgument("byte 0x{:02X} has no piece; a byte-level vocabulary has all 256", byte);
    }
  }
  const auto in_range = [&](int32_t id) { return id >= 0 && id < count; };
  for (const Merge& m : spec.merges) {
    if (!in_range(m.left) || !in_range(m.right) || !in_range(m.result)) {
      return InvalidArgument("merge {} + {} -> {}: ids must be below {}", m.left, m.right, m.result, count);
    }
  }
  model.AddMerges(spec.merges);
  model.AddPieces(spec.ignore_merges);
  return model;
}

// Looks words up in the cache a queue at a time: while one is being hashed, the entries of those before it
// are on their way from memory.
void BpeModel::EncodeWords(std::string_view text, size_t from, std::span<const uint32_t> ends,
                           Scratch& scratch, std::vector<int32_t>* ids) const {
  if (scratch.owner_ != serial_) {
    for (Scratch::Word& entry : scratch.words_) entry.key = {};
    scratch.owner_ = serial_;
  }
  for (size_t done = 0; done < ends.size();) {
    const std::span<const uint32_t> part = ends.subspan(done, std::min(Scratch::kQueue, ends.size() - done));
    size_t begin = from;
    for (size_t i = 0; i < part.size(); ++i) {
      Scratch::Queued& queued = scratch.queue_[i];
      const size_t length = part[i] - begin;
      queued.key = {};
      if (length - 1 < Scratch::kKeyBytes) {
        queued.key = WordKey<Scratch::Key>(text, begin, length);
        queued.slot = HashKey(queued.key.low, queued.key.high) & (Scratch::kWords - 1);
        __builtin_prefetch(&scratch.words_[queued.slot]);
      }
      begin = part[i];
    }
    for (size_t i = 0; i < part.size(); ++i) {
      const Scratch::Queued& queued = scratch.queue_[i];
      const std::string_view word = text.substr(from, part[i] - from);
      from = part[i];
      if (queued.key.high == 0) {  // long, or empty
        EncodeNewWord(word, scratch, ids);
        continue;
      }
      Scratch::Word& entry = scratch.words_[queued.slot];
      if (entry.key == queued.key) {
        if (entry.count == 1) {
          ids->push_back(entry.ids[0]);
        } else {
          ids->insert(ids->end(), entry.ids.begin(), entry.ids.begin() + entry.count);
        }
        continue;
      }
      const size_t before = ids->size();
      EncodeNewWord(word, scratch, ids);
      const size_t count = ids->size() - before;
      if (count > Scratch::kIds) continue;
      entry.key = queued.key;
      entry.count = static_cast<int32_t>(count);
      std::copy_n(ids->begin() + static_cast<std::ptrdiff_t>(before), count, entry.ids.begin());
    }
    done += part.size();
  }
}

void BpeModel::EncodeNewWord(std::string_view word, Scratch& scratch, std::vector<int32_t>* ids) const {
  if (word.empty()) return;
  if (const Slot* slot = FindSlot(word, HashBytes(word)); slot != nullptr && slot->whole_word) {
    ids->push_back(slot->id);
    return;
  }
  Merges(word, scratch, ids);
}

void BpeModel::Merges(std::string_view word, Scratch& scratch, std::vector<int32_t>* ids) const {
  if (word.size() <= kShortWord) {
    MergeShort(word, ids);
  } else {
    MergeLong(word, scratch, ids);
  }
}

void BpeModel::MergeShort(std::string_view word, std::vector<int32_t>* ids) const {
  std::array<int32_t, kShortWord> symbol;
  std::array<Joined, kShortWord> pair;  // pair[i] joins symbol i and i + 1
  size_t count = word.size();
  for (size_t i = 0; i < count; ++i) symbol[i] = byte_ids_[static_cast<uint8_t>(word[i])];
  for (size_t i = 0; i + 1 < count; ++i) pair[i] = BytePair(word, i);
  while (count > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i) {
      if (pair[i].rank < pair[best].rank) best = i;
    }
    if (pair[best].rank == kNoRank) break;
    symbol[best] = pair[best].result;
    for (size_t i = best + 1; i + 1 < count; ++i) symbol[i] = symbol[i + 1];
    for (size_t i = best + 1; i + 2 < count; ++i) pair[i] = pair[i + 1];
    --count;
    if (best > 0) pair[best - 1] = Look(symbol[best - 1], symbol[best]);
    if (best + 1 < count) pair[best] = Look(symbol[best], symbol[best + 1]);
  }
  ids->insert(ids->end(), symbol.begin(), symbol.begin() + static_cast<std::ptrdiff_t>(count));
}

namespace {

uint64_t HeapEntry(uint32_t rank, int32_t at) {
  return static_cast<uint64_t>(rank) << 32 | static_cast<uint32_t>(at);
}

}  // namespace

// Looks up the pair that begins at `at` and queues it.
void BpeModel::Rank(Scratch& scratch, int32_t at) const {
  Scratch::Symbol& symbol = scratch.symbols_[static_cast<size_t>(at)];
  symbol.pair = {};
  if (symbol.next < 0) return;
  symbol.pair = Look(symbol.id, scratch.symbols_[static_cast<size_t>(symbol.next)].id);
  if (symbol.pair.rank == kNoRank) return;
  scratch.heap_.push_back(HeapEntry(symbol.pair.rank, at));
  std::push_heap(scratch.heap_.begin(), scratch.heap_.end(), std::greater<>());
}

void BpeModel::MergeLong(std::string_view word, Scratch& scratch, std::vector<int32_t>* ids) const {
  auto& symbols = scratch.symbols_;
  auto& heap = scratch.heap_;
  heap.clear();
  symbols.clear();
  symbols.reserve(word.size());
  const auto count = static_cast<int32_t>(word.size());
  for (int32_t i = 0; i < count; ++i) {
    const bool last = i + 1 == count;
    const Joined pair = last ? Joined{} : BytePair(word, static_cast<size_t>(i));
    symbols.push_back(
        {byte_ids_[static_cast<uint8_t>(word[static_cast<size_t>(i)])], pair, i - 1, last ? -1 : i + 1});
    if (pair.rank != kNoRank) heap.push_back(HeapEntry(pair.rank, i));
  }
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto rank = static_cast<uint32_t>(heap.back() >> 32);
    const auto at = static_cast<int32_t>(heap.back() & UINT32_MAX);
    heap.pop_back();
    Scratch::Symbol& left = symbols[static_cast<size_t>(at)];
    if (left.pair.rank != rank) continue;  // queued before one of the two merged with something else
    Scratch::Symbol& right = symbols[static_cast<size_t>(left.next)];
    left.id = left.pair.result;
    left.next = right.next;
    right.pair = {};
    if (left.next >= 0) symbols[static_cast<size_t>(left.next)].previous = at;
    Rank(scratch, at);
    if (left.previous >= 0) Rank(scratch, left.previous);
  }
  for (int32_t at = 0; at >= 0; at = symbols[static_cast<size_t>(at)].next)
    ids->push_back(symbols[static_cast<size_t>(at)].id);
  if (word.size() > kKeptWord) {  // one monstrous word must not pin its working memory to the thread
    symbols = {};
    heap = {};
  }
}

}  // namespace fulger
