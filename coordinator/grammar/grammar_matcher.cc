#include "coordinator/grammar/grammar_matcher.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>

namespace fulger {
namespace {

std::atomic<uint64_t> mask_ids{0};

}  // namespace

GrammarMatcher::GrammarMatcher(Grammar grammar, const TokenTrie* trie, std::vector<int32_t> end_ids)
    : grammar_(std::move(grammar)), trie_(trie), end_ids_(std::move(end_ids)) {
  stacks_.push_back({.node = -1, .parent = -1, .depth = 0});
}

absl::Status GrammarMatcher::CheckWork() const {
  if (!overflow_ && work_ <= kMaxWork) return absl::OkStatus();
  return InvalidArgument("too many ways lead on from one place: it cannot be followed");
}

int32_t GrammarMatcher::Push(int32_t node, int32_t parent) {
  const uint64_t key =
      (static_cast<uint64_t>(static_cast<uint32_t>(node)) << 32) | static_cast<uint32_t>(parent);
  const auto [known, fresh] = stack_index_.try_emplace(key, static_cast<int32_t>(stacks_.size()));
  if (fresh) {
    stacks_.push_back(
        {.node = node, .parent = parent, .depth = stacks_[static_cast<size_t>(parent)].depth + 1});
  }
  return known->second;
}

// All places that read a byte and are reached from `from` without one. A place from which the end cannot be
// reached within the depth is none: so there is always a way on.
void GrammarMatcher::Close(Thread from, std::vector<Thread>* threads, bool* may_end) {
  std::vector<Thread> todo{from};
  std::set<Thread> seen{from};
  while (!todo.empty() && !overflow_) {
    const Thread at = todo.back();
    todo.pop_back();
    if (++work_ > kMaxWork) overflow_ = true;
    const auto go = [&](Thread to) {
      if (seen.insert(to).second) todo.push_back(to);
    };
    const GrammarNode& node = grammar_.nodes[static_cast<size_t>(at.node)];
    const int32_t depth = stacks_[static_cast<size_t>(at.stack)].depth;
    if (depth + grammar_.depth_needed[static_cast<size_t>(at.node)] > Grammar::kMaxDepth) continue;
    switch (node.kind) {
      case GrammarNode::Kind::kBytes:
        threads->push_back(at);
        break;
      case GrammarNode::Kind::kSplit:
        for (const int32_t target : node.targets) go({target, at.stack});
        break;
      case GrammarNode::Kind::kCall:
        go({node.rule, Push(node.next, at.stack)});
        break;
      case GrammarNode::Kind::kReturn:
        if (at.stack == 0) {
          *may_end = true;
        } else {
          const Frame frame = stacks_[static_cast<size_t>(at.stack)];
          go({frame.node, frame.parent});
        }
        break;
    }
  }
}

GrammarMatcher::State GrammarMatcher::Intern(std::vector<Thread> threads, bool may_end) {
  std::ranges::sort(threads);
  threads.erase(std::unique(threads.begin(), threads.end()), threads.end());
  if (threads.empty() && !may_end) return kDead;
  if (threads.size() > kMaxThreads || states_.size() > kMostStates) overflow_ = true;
  std::string key(threads.size() * sizeof(Thread) + 1, may_end ? '\1' : '\0');
  if (!threads.empty()) std::memcpy(key.data() + 1, threads.data(), threads.size() * sizeof(Thread));
  const auto [known, fresh] = state_index_.try_emplace(std::move(key), static_cast<State>(states_.size()));
  if (fresh) states_.push_back({.threads = std::move(threads), .may_end = may_end, .next = {}, .mask = {}});
  return known->second;
}

GrammarMatcher::State GrammarMatcher::Next(State state, unsigned char byte) {
  if (overflow_) return kDead;
  StateInfo& info = states_[static_cast<size_t>(state)];
  if (info.next == nullptr) {
    info.next = std::make_unique<std::array<State, 256>>();
    info.next->fill(kUnknown);
  }
  if (const State known = (*info.next)[byte]; known != kUnknown) return known;
  std::vector<Thread> reached;
  bool may_end = false;
  work_ += static_cast<int64_t>(info.threads.size());
  for (const Thread& thread : info.threads) {
    const GrammarNode& node = grammar_.nodes[static_cast<size_t>(thread.node)];
    if (!grammar_.sets[static_cast<size_t>(node.set)].test(byte)) continue;
    Close({node.next, thread.stack}, &reached, &may_end);
  }
  const State next = Intern(std::move(reached), may_end);  // moves states_
  if (!overflow_) (*states_[static_cast<size_t>(state)].next)[byte] = next;
  return next;
}

absl::StatusOr<GrammarMatcher::State> GrammarMatcher::Start() {
  std::lock_guard lock(mu_);
  work_ = 0;
  std::vector<Thread> threads;
  bool may_end = false;
  Close({grammar_.start, 0}, &threads, &may_end);
  const State state = Intern(std::move(threads), may_end);
  RETURN_IF_ERROR(CheckWork());
  if (state == kDead) return InvalidArgument("nothing can satisfy it");
  return state;
}

absl::StatusOr<GrammarMatcher::State> GrammarMatcher::Advance(State state, std::string_view bytes) {
  std::lock_guard lock(mu_);
  work_ = 0;
  for (const char byte : bytes) {
    state = Next(state, static_cast<unsigned char>(byte));
    RETURN_IF_ERROR(CheckWork());
    if (state == kDead) return Internal("a token was drawn that the grammar does not allow");
  }
  return state;
}

absl::StatusOr<std::shared_ptr<const TokenMask>> GrammarMatcher::MaskOf(State state) {
  std::lock_guard lock(mu_);
  if (states_[static_cast<size_t>(state)].mask != nullptr) return states_[static_cast<size_t>(state)].mask;
  work_ = 0;
  std::string bits(static_cast<size_t>(trie_->vocabulary() + 7) / 8, '\0');
  bool any = false;
  const auto allow = [&](int32_t id) {
    any = true;
    char& byte = bits[static_cast<size_t>(id) / 8];
    byte = static_cast<char>(static_cast<unsigned char>(byte) | 1U << (id % 8));
  };
  std::vector<State> at(trie_->max_depth() + 1, kDead);
  at[0] = state;
  const std::vector<TokenTrie::Node>& nodes = trie_->nodes();
  for (size_t i = 0; i < nodes.size();) {
    const TokenTrie::Node& node = nodes[i];
    const State next = Next(at[node.depth], node.byte);
    if (next == kDead) {
      if (overflow_) break;
      i = node.skip;
      continue;
    }
    at[node.depth + size_t{1}] = next;
    if (node.token >= 0) allow(node.token);
    for (int32_t twin = node.twin; twin >= 0; twin = trie_->twins()[static_cast<size_t>(twin)].second) {
      allow(trie_->twins()[static_cast<size_t>(twin)].first);
    }
    ++i;
  }
  RETURN_IF_ERROR(CheckWork());
  if (states_[static_cast<size_t>(state)].may_end) {
    for (const int32_t id : end_ids_) allow(id);
  }
  if (!any) return InvalidArgument("no token of this vocabulary can follow");
  auto& mask = masks_[bits];
  if (mask == nullptr) mask = std::make_shared<TokenMask>(TokenMask{.id = ++mask_ids, .bits = bits});
  states_[static_cast<size_t>(state)].mask = mask;
  return mask;
}

bool GrammarMatcher::MayEnd(State state) {
  std::lock_guard lock(mu_);
  return states_[static_cast<size_t>(state)].may_end;
}

bool GrammarMatcher::full() {
  std::lock_guard lock(mu_);
  return overflow_ || states_.size() > kFullStates || masks_.size() > kFullMasks;
}

}  // namespace fulger
