// Runs a grammar over the tokens of a vocabulary: which of them may come next, and where each leads. The
// automaton is made deterministic while it runs, and what was found once is kept for all answers of the same
// form.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/status.h"
#include "coordinator/grammar/grammar.h"
#include "coordinator/grammar/token_trie.h"
#include "coordinator/scheduler/token_mask.h"

namespace fulger {

// Thread-safe; a call that makes a new mask takes a few milliseconds for 200,000 tokens.
class GrammarMatcher {
 public:
  // A place in the grammar.
  using State = int32_t;

  // `end_ids` may come where the grammar allows an end. `trie` must outlive this.
  GrammarMatcher(Grammar grammar, const TokenTrie* trie, std::vector<int32_t> end_ids);

  // INVALID_ARGUMENT: too many ways lead on from here; the message says so.
  absl::StatusOr<State> Start();
  // By the bytes of one token. INTERNAL: the grammar does not allow them.
  absl::StatusOr<State> Advance(State state, std::string_view bytes);
  // At least one token, or an end.
  absl::StatusOr<std::shared_ptr<const TokenMask>> MaskOf(State state);
  bool MayEnd(State state);

  // So much is kept that new answers should begin with a new matcher.
  bool full();

 private:
  static constexpr State kDead = -1, kUnknown = -2;
  static constexpr size_t kMaxThreads = 4096;      // of one state
  static constexpr int64_t kMaxWork = 20'000'000;  // threads moved for one mask or token
  static constexpr size_t kFullStates = 20'000, kFullMasks = 1'000;
  static constexpr size_t kMostStates = 4 * kFullStates;

  // A place in one rule, and where it was called from.
  struct Thread {
    int32_t node = 0;
    int32_t stack = 0;                                // index into stacks_; 0: the answer itself
    auto operator<=>(const Thread&) const = default;  // NOLINT(modernize-use-nullptr): read wrongly
  };
  struct Frame {
    int32_t node = 0;  // to return to
    int32_t parent = 0;
    int32_t depth = 0;
  };
  struct StateInfo {
    std::vector<Thread> threads;  // sorted; all at kBytes nodes
    bool may_end = false;
    std::unique_ptr<std::array<State, 256>> next;
    std::shared_ptr<const TokenMask> mask;
  };

  // With mu_ held.
  void Close(Thread from, std::vector<Thread>* threads, bool* may_end);
  int32_t Push(int32_t node, int32_t parent);
  State Intern(std::vector<Thread> threads, bool may_end);
  State Next(State state, unsigned char byte);
  absl::Status CheckWork() const;

  const Grammar grammar_;
  const TokenTrie* const trie_;
  const std::vector<int32_t> end_ids_;

  std::mutex mu_;
  std::vector<Frame> stacks_;
  std::unordered_map<uint64_t, int32_t> stack_index_;
  std::vector<StateInfo> states_;
  std::unordered_map<std::string, State> state_index_;
  std::unordered_map<std::string, std::shared_ptr<const TokenMask>> masks_;  // by bits
  int64_t work_ = 0;
  bool overflow_ = false;
};

}  // namespace fulger
