// Byte-level byte-pair encoding of one word: pairs merge in order of rank, leftmost first among equals, as
// Hugging Face tokenizers does it. Short words merge in a small array, long ones over a linked list with a
// heap, so a word of n bytes costs O(n log n). Immutable, thread-safe; each thread brings its Scratch.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace fulger {

class BpeModel {
 public:
  struct Merge {  // in order of rank
    int32_t left;
    int32_t right;
    int32_t result;
  };
  struct Spec {
    std::vector<std::string> bytes;  // by id; empty where the id is no piece that merging could make
    std::vector<Merge> merges;
    bool ignore_merges = false;  // a word that is a piece is that piece, whatever the merges say
  };

 private:
  static constexpr uint32_t kNoRank = UINT32_MAX;
  struct Joined {  // what two neighbours become, and when: kNoRank is never
    uint32_t rank = kNoRank;
    int32_t result = -1;
  };

 public:
  // Remembers recent words of up to 15 bytes: nearly all of a text. Bounded: about 1 MiB. Belongs to one
  // thread; serves one model at a time and forgets what it knew when used with another.
  class Scratch {
   public:
    Scratch() : words_(kWords), queue_(kQueue) {}

   private:
    friend class BpeModel;
    static constexpr size_t kWords = 1 << 14;
    static constexpr size_t kKeyBytes = 15;
    static constexpr size_t kIds = 11;
    static constexpr size_t kQueue = 256;
    // A word's bytes, zeros behind them, its length in the sixteenth.
    struct Key {
      uint64_t low = 0;
      uint64_t high = 0;  // 0: no word, for every word has a length
      bool operator==(const Key&) const = default;
    };
    struct alignas(64) Word {  // a cache line
      Key key;
      int32_t count = 0;
      std::array<int32_t, kIds> ids;
    };
    struct Queued {
      Key key;
      uint32_t slot = 0;
    };
    struct Symbol {
      int32_t id;
      Joined pair;  // with `next`
      int32_t previous;
      int32_t next;
    };
    uint64_t owner_ = 0;
    std::vector<Word> words_;
    std::vector<Queued> queue_;
    std::vector<Symbol> symbols_;
    std::vector<uint64_t> heap_;
  };

  // INVALID_ARGUMENT where a byte has no piece of its own or ids are out of range.
  static absl::StatusOr<BpeModel> Create(Spec spec);

  // Appends the ids of the words of `text` that end at `ends`, the first of which begins at `from`; any
  // bytes, at most 2^31 - 1 of them. Empty words have no ids.
  void EncodeWords(std::string_view text, size_t from, std::span<const uint32_t> ends, Scratch& scratch,
                   std::vector<int32_t>* ids) const;
  // The id whose bytes these are, or -1.
  int32_t Find(std::string_view bytes) const;

 private:
  struct Pair {
    uint64_t key = UINT64_MAX;  // left << 32 | right
    Joined joined;
  };
  struct Slot {
    int32_t id = -1;
    uint32_t hash = 0;
    bool whole_word = false;  // merging these bytes gives this one piece
  };

  BpeModel() = default;
  void AddPieces(bool ignore_merges);
  void AddMerges(std::span<const Merge> merges);
  const Slot* FindSlot(std::string_view bytes, uint64_t hash) const;
  Joined Look(int32_t left, int32_t right) const;
  Joined BytePair(std::string_view word, size_t at) const {
    return byte_pairs_[static_cast<size_t>(static_cast<uint8_t>(word[at])) << 8 |
                       static_cast<uint8_t>(word[at + 1])];
  }
  std::string_view Bytes(int32_t id) const;
  void EncodeNewWord(std::string_view word, Scratch& scratch, std::vector<int32_t>* ids) const;
  void Merges(std::string_view word, Scratch& scratch, std::vector<int32_t>* ids) const;
  void MergeShort(std::string_view word, std::vector<int32_t>* ids) const;
  void MergeLong(std::string_view word, Scratch& scratch, std::vector<int32_t>* ids) const;
  void Rank(Scratch& scratch, int32_t at) const;

  uint64_t serial_ = 0;
  std::string bytes_;  // all pieces one after the other
  std::vector<uint32_t> begin_;
  std::array<int32_t, 256> byte_ids_{};
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  std::vector<Pair> pairs_;  // likewise
  // Most pairs that are looked up do not merge. One bit for each hash, sixteen bits for each merge: small
  // enough for the second cache, where the pairs themselves are not.
  std::vector<uint64_t> pair_filter_;
  std::vector<Joined> byte_pairs_;  // of the pieces of two bytes, by first << 8 | second
};

}  // namespace fulger
