#include "monitoring/metrics/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "monitoring/metrics/server_metrics.h"

namespace fulger {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Metrics, TextFormat) {
  MetricRegistry registry(MetricLabels{{"replica", "0"}});
  const Counter requests = registry.AddCounter("fulger_things_total", "Things.", {{"kind", "a"}});
  requests.Add();
  requests.Add(2);
  const Gauge depth = registry.AddGauge("fulger_depth", "Depth.");
  depth.Set(-1.5);
  const Histogram h = registry.AddHistogram("fulger_wait_seconds", "Wait.", {0.5, 1});
  h.Observe(0.5);
  h.Observe(3);
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("# HELP fulger_things_total Things.\n# TYPE fulger_things_total counter\n"
                              "fulger_things_total{replica=\"0\",kind=\"a\"} 3\n"));
  EXPECT_THAT(text, HasSubstr("fulger_depth{replica=\"0\"} -1.5\n"));
  EXPECT_THAT(text, HasSubstr("fulger_wait_seconds_bucket{replica=\"0\",le=\"0.5\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("fulger_wait_seconds_bucket{replica=\"0\",le=\"+Inf\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("fulger_wait_seconds_sum{replica=\"0\"} 3.5\n"));
}

TEST(Metrics, SeriesGoesWithItsOwner) {
  MetricRegistry registry;
  const Gauge stays = registry.AddGauge("fulger_rank_up", "Up.", {{"rank", "0"}});
  {
    const Gauge goes = registry.AddGauge("fulger_rank_up", "Up.", {{"rank", "1"}});
    EXPECT_THAT(registry.Serialize(), HasSubstr("rank=\"1\""));
  }
  EXPECT_THAT(registry.Serialize(), Not(HasSubstr("rank=\"1\"")));
  EXPECT_THAT(registry.Serialize(), HasSubstr("rank=\"0\""));
}

TEST(Metrics, SameNameAndLabelsIsTheSameSeries) {
  MetricRegistry registry;
  const Counter a = registry.AddCounter("fulger_a_total", "A.");
  const Counter b = registry.AddCounter("fulger_a_total", "A.");
  a.Add(1);
  b.Add(2);
  EXPECT_EQ(a.value(), 3);
}

TEST(Metrics, HandleMayOutliveTheRegistry) {
  auto registry = std::make_unique<MetricRegistry>();
  const Counter counter = registry->AddCounter("fulger_a_total", "A.");
  registry.reset();
  counter.Add();
  EXPECT_EQ(counter.value(), 1);
}

TEST(Metrics, CollectorGoesWithTheRegistry) {
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = held;
  auto registry = std::make_unique<MetricRegistry>();
  registry->AddCollector([gauge = registry->AddGauge("fulger_a", "A."), held] { gauge.Set(*held); });
  held.reset();
  EXPECT_THAT(registry->Serialize(), HasSubstr("fulger_a 1\n"));
  registry.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(Metrics, RaiseToNeverLowers) {
  MetricRegistry registry;
  const Counter counter = registry.AddCounter("fulger_a_total", "A.");
  counter.RaiseTo(5);
  counter.RaiseTo(3);
  EXPECT_EQ(counter.value(), 5);
}

TEST(Metrics, CollectorRunsBeforeEachScrape) {
  MetricRegistry registry;
  const Gauge gauge = registry.AddGauge("fulger_age", "Age.");
  int age = 0;
  registry.AddCollector([&] { gauge.Set(++age); });
  EXPECT_THAT(registry.Serialize(), HasSubstr("fulger_age 1\n"));
  EXPECT_THAT(registry.Serialize(), HasSubstr("fulger_age 2\n"));
}

TEST(Metrics, UpdatesFromManyThreads) {
  MetricRegistry registry;
  ServerMetrics metrics(&registry, {.version = "1"});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 1000; ++i) {
        metrics.generation_tokens.Add();
        metrics.Rejected("overload");
        metrics.inter_token_latency.Observe(0.01);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(metrics.generation_tokens.value(), 4000);
  EXPECT_THAT(registry.Serialize(), HasSubstr("fulger_requests_rejected_total{reason=\"overload\"} 4000\n"));
  EXPECT_THAT(registry.Serialize(), HasSubstr("fulger_inter_token_latency_seconds_count 4000\n"));
}

TEST(ServerMetrics, VllmNamesOnlyWhenAsked) {
  MetricRegistry plain;
  ServerMetrics own(&plain, {.version = "1"});
  EXPECT_THAT(plain.Serialize(), Not(HasSubstr("vllm:")));

  MetricRegistry both;
  ServerMetrics metrics(&both, {.version = "1", .vllm_names = true, .model_name = "m"});
  metrics.Finished("stop");
  metrics.running.Set(3);
  const std::string text = both.Serialize();
  EXPECT_THAT(text, HasSubstr("fulger_requests_running 3\n"));
  EXPECT_THAT(text, HasSubstr("vllm:num_requests_running{model_name=\"m\",engine=\"0\"} 3\n"));
  EXPECT_THAT(
      text,
      HasSubstr("vllm:request_success_total{finished_reason=\"stop\",model_name=\"m\",engine=\"0\"} 1\n"));
}

TEST(ServerMetrics, TokenBucketsEndAtTheContext) {
  MetricRegistry registry;
  ServerMetrics metrics(&registry, {.version = "1", .max_context = 8192});
  const std::string text = registry.Serialize();
  EXPECT_THAT(text, HasSubstr("fulger_request_prompt_tokens_bucket{le=\"5000\"} 0\n"));
  EXPECT_THAT(text, Not(HasSubstr("fulger_request_prompt_tokens_bucket{le=\"10000\"}")));
}

}  // namespace
}  // namespace fulger
