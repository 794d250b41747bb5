// The first failure of a fabric. Once set, every operation ends with it.
//
// Threads: any. `failed()` is one atomic load, so polling loops may ask at every turn.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "base/status.h"

namespace fulger {

class Failure {
 public:
  bool failed() const { return failed_.load(std::memory_order_acquire); }

  // Keeps the first failure; returns the one that is kept.
  absl::Status Set(const absl::Status& status) {
    std::lock_guard lock(mu_);
    if (first_.ok()) {
      first_ = status;
      failed_.store(true, std::memory_order_release);
    }
    return first_;
  }

  // What Fabric::Abort does: operations end with ABORTED and the words of `why`.
  void Abort(const absl::Status& why) {
    static_cast<void>(Set(MakeStatus(absl::StatusCode::kAborted, "aborted: {}", Message(why))));
  }

  // OK, or the first failure with `where` (see Where::ToString) before its message.
  template <typename Where>
  absl::Status Check(const Where& where) const {
    if (!failed()) return absl::OkStatus();
    std::lock_guard lock(mu_);
    const std::string context = where.ToString();
    return Message(first_).starts_with(context) ? first_ : Annotate(first_, context);
  }

 private:
  std::atomic<bool> failed_{false};
  mutable std::mutex mu_;
  absl::Status first_;
};

}  // namespace fulger
