// Counts work in flight so that a server can stop: Close refuses new entries, Wait returns when the last one
// left.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

namespace fulger {

class Gate {
 public:
  class Pass {
   public:
    explicit Pass(Gate* gate) : gate_(gate) {}
    Pass(Pass&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    Pass& operator=(Pass&&) = delete;
    ~Pass() {
      if (gate_ != nullptr) gate_->Leave();
    }

   private:
    Gate* gate_;
  };

  // nullopt once closed.
  std::optional<Pass> Enter() {
    std::lock_guard lock(mu_);
    if (closed_) return std::nullopt;
    ++inside_;
    return Pass(this);
  }
  void Close() {
    std::lock_guard lock(mu_);
    closed_ = true;
  }
  void Wait() {
    std::unique_lock lock(mu_);
    empty_.wait(lock, [&] { return inside_ == 0; });
  }
  int64_t inside() const {
    std::lock_guard lock(mu_);
    return inside_;
  }

 private:
  void Leave() {
    std::lock_guard lock(mu_);
    if (--inside_ == 0) empty_.notify_all();
  }

  mutable std::mutex mu_;
  std::condition_variable empty_;
  int64_t inside_ = 0;
  bool closed_ = false;
};

}  // namespace fulger
