// What a dashboard of an inference server shows about requests, whichever edge they came through. Updated by
// the frontend (tokens, latencies, ends) and by the edges (refusals); thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "monitoring/metrics/metrics.h"

namespace fulger {

struct ServerMetricsOptions {
  std::string version{};
  int64_t max_context = 131072;  // the token histograms end here
  bool vllm_names = false;       // --metrics-compat=vllm: the same values under vLLM's names as well
  std::string model_name{};      // label of the vLLM names
};

class ServerMetrics {
 public:
  ServerMetrics(MetricRegistry* registry, const ServerMetricsOptions& options);

  // reason: stop | length | abort | error.
  void Finished(const std::string& reason);
  // reason: invalid | unauthorized | not_found | overload | unavailable | deadline | error.
  void Rejected(const std::string& reason);
  void HttpAnswered(const std::string& route, int code);

 private:
  // Series that come into being with their first event, one per label value.
  Counter& Labelled(const std::string& name, const std::string& help, const MetricLabels& labels);

  MetricRegistry* registry_;
  std::mutex mu_;
  std::map<std::pair<std::string, MetricLabels>, Counter> labelled_;

 public:
  Gauge running, waiting, kv_usage, build_info;
  Counter prompt_tokens, generation_tokens, cached_tokens, preemptions;
  Histogram time_to_first_token, inter_token_latency, time_per_output_token, request_latency;
  Histogram request_prompt_tokens, request_generation_tokens, request_max_tokens;
};

}  // namespace fulger
