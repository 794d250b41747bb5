#include "monitoring/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <exception>
#include <map>
#include <mutex>
#include <sstream>

#include "base/check.h"

namespace fulger {
namespace {

prometheus::Labels ToMap(const MetricLabels& labels) { return {labels.begin(), labels.end()}; }

struct Alias {
  std::string name;
  MetricLabels extra;
};

}  // namespace

struct MetricRegistry::Core {
  prometheus::Registry registry;
  prometheus::Labels constant;
  mutable std::mutex mu;
  std::mutex collecting;  // one scrape's collectors at a time
  std::map<std::string, std::vector<Alias>> aliases;
  std::vector<std::function<void()>> collectors;
  // Live series, so that the same name and labels give the same handle.
  std::map<std::pair<std::string, prometheus::Labels>, std::weak_ptr<void>> series;

  template <typename M, typename Builder, typename... Args>
  std::shared_ptr<M> Add(std::shared_ptr<Core> self, Builder builder, const std::string& name,
                         const std::string& help, const MetricLabels& labels, const Args&... args) {
    std::lock_guard lock(mu);
    auto key = std::make_pair(name, ToMap(labels));
    if (auto live = series[key].lock()) return std::static_pointer_cast<M>(live);
    try {
      auto& family = builder.Name(name).Help(help).Labels(constant).Register(registry);
      M* metric = &family.Add(key.second, args...);
      // `series` keeps the deleter as long as itself, so the deleter must let go of the core.
      std::shared_ptr<M> handle(metric, [self = std::move(self), &family](M* m) mutable {
        family.Remove(m);
        self.reset();
      });
      series[key] = handle;
      return handle;
    } catch (const std::exception& e) {
      FULGER_CHECK(false, "metric {}: {}", name, e.what());
      return nullptr;
    }
  }
};

void Counter::Add(double amount) const { impl_->Increment(amount); }
void Counter::RaiseTo(double total) const {
  static std::mutex mu;  // of all: rare, and short
  std::lock_guard lock(mu);
  if (const double now = impl_->Value(); total > now) impl_->Increment(total - now);
}
double Counter::value() const { return impl_->Value(); }
void Gauge::Set(double value) const { impl_->Set(value); }
void Gauge::Add(double amount) const { impl_->Increment(amount); }
double Gauge::value() const { return impl_->Value(); }
void Histogram::Observe(double value) const { impl_->Observe(value); }

MetricRegistry::MetricRegistry(const MetricLabels& constant) : core_(std::make_shared<Core>()) {
  core_->constant = ToMap(constant);
}
// Collectors hold metrics, and a metric holds the core: what keeps itself alive is cut here.
MetricRegistry::~MetricRegistry() {
  std::vector<std::function<void()>> collectors;
  std::lock_guard lock(core_->mu);
  collectors.swap(core_->collectors);
}

Counter MetricRegistry::AddCounter(const std::string& name, const std::string& help,
                                   const MetricLabels& labels) {
  return Counter(core_->Add<prometheus::Counter>(core_, prometheus::BuildCounter(), name, help, labels));
}
Gauge MetricRegistry::AddGauge(const std::string& name, const std::string& help, const MetricLabels& labels) {
  return Gauge(core_->Add<prometheus::Gauge>(core_, prometheus::BuildGauge(), name, help, labels));
}
Histogram MetricRegistry::AddHistogram(const std::string& name, const std::string& help,
                                       const std::vector<double>& bounds, const MetricLabels& labels) {
  return Histogram(core_->Add<prometheus::Histogram>(core_, prometheus::BuildHistogram(), name, help, labels,
                                                     prometheus::Histogram::BucketBoundaries(bounds)));
}

void MetricRegistry::AddAlias(const std::string& name, const std::string& alias, const MetricLabels& extra) {
  std::lock_guard lock(core_->mu);
  core_->aliases[name].push_back({alias, extra});
}

void MetricRegistry::AddCollector(std::function<void()> collect) {
  std::lock_guard lock(core_->mu);
  core_->collectors.push_back(std::move(collect));
}

std::string MetricRegistry::Serialize() const {
  std::vector<std::function<void()>> collectors;
  {
    std::lock_guard lock(core_->mu);
    collectors = core_->collectors;
  }
  {
    std::lock_guard lock(core_->collecting);
    for (const auto& collect : collectors) collect();
  }
  std::vector<prometheus::MetricFamily> families = core_->registry.Collect();
  // A family whose series are all gone has nothing to say.
  std::erase_if(families, [](const auto& family) { return family.metric.empty(); });
  std::vector<prometheus::MetricFamily> copies;
  {
    std::lock_guard lock(core_->mu);
    for (const auto& family : families) {
      const auto found = core_->aliases.find(family.name);
      if (found == core_->aliases.end()) continue;
      for (const Alias& alias : found->second) {
        prometheus::MetricFamily copy = family;
        copy.name = alias.name;
        for (auto& metric : copy.metric) {
          for (const auto& [name, value] : alias.extra) metric.label.push_back({name, value});
        }
        copies.push_back(std::move(copy));
      }
    }
  }
  families.insert(families.end(), copies.begin(), copies.end());
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, families);
  return out.str();
}

}  // namespace fulger
