// What the ranks of a ThreadWorld share. One mutex guards all of it: it is held for bookkeeping only, never
// while data is summed or copied.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "worker/comm/checks.h"
#include "worker/comm/failure.h"
#include "worker/comm/message_queue.h"
#include "worker/comm/thread_fabric.h"

namespace fulger {

// What one rank brings to a collective operation. `in` may lie inside `out`.
struct ThreadCall {
  std::string_view operation;
  size_t bytes = 0;  // of `in`
  int root = 0;
  const void* in = nullptr;
  void* out = nullptr;
};

struct ThreadGroupState {
  ThreadGroupState(std::string n, std::vector<int> r)
      : name(std::move(n)), ranks(std::move(r)), calls(ranks.size()), present(ranks.size()) {}

  const std::string name;
  const std::vector<int> ranks;  // world ranks
  std::condition_variable cv;
  // One operation: all arrive, then `working` until the data has moved, then the generation advances. Nobody
  // leaves while `working`: others read and write its tensors.
  uint64_t generation = 0;
  bool working = false;
  int arrived = 0;
  int finished = 0;
  std::vector<ThreadCall> calls;  // written under the mutex before `working`, read without it during
  std::vector<char> present;
};

struct ThreadLinkState {
  ThreadLinkState(int f, int t) : from(f), to(t) {}
  const int from, to;
  std::condition_variable cv;
  MessageQueue queue;
  BufferPool pool;
};

struct ThreadWorld::State {
  State(int s, const FabricOptions& o) : size(s), options(o) {}

  // With `mu` held. Every waiter of the world wakes with the first failure.
  absl::Status FailLocked(const absl::Status& status) {
    const absl::Status first = failure->Set(status);
    WakeAllLocked();
    return first;
  }
  void AbortLocked(const absl::Status& why) {
    failure->Abort(why);
    WakeAllLocked();
  }
  void WakeAllLocked() {
    for (auto& [name, group] : groups) group->cv.notify_all();
    for (auto& [name, link] : links) link->cv.notify_all();
  }

  const int size;
  const FabricOptions options;
  std::mutex mu;
  const std::shared_ptr<Failure> failure = std::make_shared<Failure>();
  std::map<std::string, std::shared_ptr<ThreadGroupState>> groups;
  std::map<std::string, std::shared_ptr<ThreadLinkState>> links;
  std::set<std::pair<std::string, int>> taken;  // (kind and name, rank): a name is used once by each rank
};

// `index` within the group.
std::unique_ptr<Collective> MakeThreadCollective(std::shared_ptr<ThreadWorld::State> world,
                                                 std::shared_ptr<ThreadGroupState> group, int index);
std::unique_ptr<Link> MakeThreadLink(std::shared_ptr<ThreadWorld::State> world,
                                     std::shared_ptr<ThreadLinkState> link, std::string name, int rank);

}  // namespace fulger
