// How a polling loop waits: it polls at full speed for a moment (the answer is usually on its way), then
// gives up the core between polls, then sleeps, longer and longer. A long wait costs next to no CPU time.
#pragma once

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace fulger {

class Backoff {
 public:
  // `crowded`: more ranks than cores here; then polling at full speed only keeps the others from answering.
  explicit Backoff(bool crowded)
      : spin_until_(std::chrono::steady_clock::now() + (crowded ? Micros(0) : Micros(80))),
        yield_until_(spin_until_ + Micros(1000)) {}

  void Pause() {
    const auto now = std::chrono::steady_clock::now();
    if (now < spin_until_) return;
    if (now < yield_until_) {
      sched_yield();
      return;
    }
    std::this_thread::sleep_for(sleep_);
    sleep_ = std::min(2 * sleep_, Micros(500));
  }

 private:
  using Micros = std::chrono::microseconds;
  const std::chrono::steady_clock::time_point spin_until_, yield_until_;
  Micros sleep_{20};
};

}  // namespace fulger
