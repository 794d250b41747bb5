// Which replica a request goes to: a pure function of what each has cached of its prompt and how busy each
// is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace fulger {

struct ReplicaView {
  bool up = false;
  int64_t cached = 0;    // positions of the prompt that need not be run there
  int64_t requests = 0;  // running and waiting
};

// A request that is there already counts as much as so many prompt tokens: a cached prefix draws requests
// until its replica is that much busier than another.
constexpr int64_t kTokensPerRequest = 256;

// The one where the prompt costs least; of equal ones the first. views.size(): none is up.
inline size_t ChooseReplica(std::span<const ReplicaView> views, int64_t prompt) {
  size_t best = views.size();
  int64_t least = 0;
  for (size_t i = 0; i < views.size(); ++i) {
    if (!views[i].up) continue;
    const int64_t cost = prompt - views[i].cached + kTokensPerRequest * views[i].requests;
    if (best < views.size() && cost >= least) continue;
    best = i;
    least = cost;
  }
  return best;
}

}  // namespace fulger
