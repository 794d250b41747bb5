// Counters, gauges and histograms for Prometheus. The class that updates a metric owns it: when the last copy
// of a handle goes away, its time series does too. All calls are thread-safe; updates are one atomic
// operation (histograms: a lock of their own). prometheus-cpp stays behind this header.
#pragma once

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace fulger {

using MetricLabels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  explicit Counter(std::shared_ptr<prometheus::Counter> impl) : impl_(std::move(impl)) {}
  void Add(double amount = 1) const;
  // For totals that somebody else counts: raises the counter to `total`, never lowers it.
  void RaiseTo(double total) const;
  double value() const;

 private:
  std::shared_ptr<prometheus::Counter> impl_;
};

class Gauge {
 public:
  explicit Gauge(std::shared_ptr<prometheus::Gauge> impl) : impl_(std::move(impl)) {}
  void Set(double value) const;
  void Add(double amount) const;
  double value() const;

 private:
  std::shared_ptr<prometheus::Gauge> impl_;
};

class Histogram {
 public:
  explicit Histogram(std::shared_ptr<prometheus::Histogram> impl) : impl_(std::move(impl)) {}
  void Observe(double value) const;

 private:
  std::shared_ptr<prometheus::Histogram> impl_;
};

class MetricRegistry {
 public:
  // `constant` labels go onto every metric.
  explicit MetricRegistry(const MetricLabels& constant = {});
  ~MetricRegistry();
  MetricRegistry(const MetricRegistry&) = delete;
  MetricRegistry& operator=(const MetricRegistry&) = delete;

  // The same name with other labels is another series of one family; the same name and labels is the same
  // series. Names and help texts are literals of ours: an invalid or clashing one is a bug and aborts.
  Counter AddCounter(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  Gauge AddGauge(const std::string& name, const std::string& help, const MetricLabels& labels = {});
  // `bounds`: upper limits of the buckets, ascending; +Inf is added.
  Histogram AddHistogram(const std::string& name, const std::string& help, const std::vector<double>& bounds,
                         const MetricLabels& labels = {});

  // The family `name` is exposed a second time as `alias`, with `extra` labels: for dashboards made for
  // others.
  void AddAlias(const std::string& name, const std::string& alias, const MetricLabels& extra);
  // Called before every Serialize, by its thread, one at a time: sets gauges from state that lives elsewhere.
  void AddCollector(std::function<void()> collect);

  // Prometheus text exposition format 0.0.4.
  std::string Serialize() const;

 private:
  struct Core;
  std::shared_ptr<Core> core_;  // shared with the handles' deleters
};

}  // namespace fulger
