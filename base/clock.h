// Time as a dependency: production code takes a Clock&, tests own a ManualClock and never sleep.
#pragma once

#include <atomic>
#include <chrono>

namespace fulger {

using TimePoint = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimePoint Now() const override { return std::chrono::steady_clock::now(); }
};

class ManualClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(Duration(ns_.load())); }
  void Advance(Duration d) { ns_ += d.count(); }

 private:
  std::atomic<int64_t> ns_{0};
};

inline double Seconds(Duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace fulger
