#include "monitoring/metrics/server_metrics.h"

#include <initializer_list>
#include <vector>

#include "monitoring/metrics/buckets.h"

namespace fulger {
namespace {

// 1, 2, 5, 10, 20, 50, ... up to `limit`.
std::vector<double> TokenBounds(int64_t limit) {
  std::vector<double> bounds;
  for (int64_t decade = 1; decade <= limit; decade *= 10) {
    for (const int64_t step : {1, 2, 5}) {
      if (decade * step <= limit) bounds.push_back(static_cast<double>(decade * step));
    }
  }
  return bounds;
}

constexpr char kFinishedName[] = "fulger_requests_finished_total";
constexpr char kFinishedHelp[] = "Requests that ended, by reason.";
constexpr char kRejectedName[] = "fulger_requests_rejected_total";
constexpr char kRejectedHelp[] = "Requests refused before they were queued, by reason.";

}  // namespace

ServerMetrics::ServerMetrics(MetricRegistry* registry, const ServerMetricsOptions& options)
    : registry_(registry),
      running(registry->AddGauge("fulger_requests_running", "Requests in batches.")),
      waiting(registry->AddGauge("fulger_requests_waiting", "Requests queued.")),
      kv_usage(registry->AddGauge("fulger_kv_cache_usage_ratio", "KV blocks in use, 0 to 1.")),
      build_info(registry->AddGauge("fulger_build_info", "Always 1; the labels say what runs.",
                                    {{"version", options.version}})),
      prompt_tokens(registry->AddCounter("fulger_prompt_tokens_total", "Prompt tokens accepted.")),
      generation_tokens(registry->AddCounter("fulger_generation_tokens_total", "Tokens generated.")),
      cached_tokens(registry->AddCounter("fulger_prefix_cache_hit_tokens_total",
                                         "Prompt tokens that a saved prefix covered.")),
      preemptions(registry->AddCounter("fulger_preemptions_total", "Requests that were put back.")),
      time_to_first_token(registry->AddHistogram("fulger_time_to_first_token_seconds",
                                                 "From arrival to the first token.", kFirstTokenSeconds)),
      inter_token_latency(registry->AddHistogram("fulger_inter_token_latency_seconds",
                                                 "Between two tokens of one request.", kTokenSeconds)),
      time_per_output_token(registry->AddHistogram("fulger_time_per_output_token_seconds",
                                                   "Mean time between tokens, one sample per request.",
                                                   kTokenSeconds)),
      request_latency(registry->AddHistogram("fulger_request_latency_seconds",
                                             "From arrival to the last token.", kRequestSeconds)),
      request_prompt_tokens(registry->AddHistogram(
          "fulger_request_prompt_tokens", "Prompt tokens per request.", TokenBounds(options.max_context))),
      request_generation_tokens(registry->AddHistogram("fulger_request_generation_tokens",
                                                       "Generated tokens per request.",
                                                       TokenBounds(options.max_context))),
      request_max_tokens(registry->AddHistogram("fulger_request_max_tokens", "max_tokens asked for.",
                                                TokenBounds(options.max_context))) {
  build_info.Set(1);
  // Present from the start, so that a rate over them is 0 and not absent.
  for (const char* reason : {"stop", "length", "abort", "error"}) {
    Labelled(kFinishedName, kFinishedHelp, {{"finished_reason", reason}});
  }
  for (const char* reason :
       {"invalid", "unauthorized", "not_found", "overload", "unavailable", "deadline", "error"}) {
    Labelled(kRejectedName, kRejectedHelp, {{"reason", reason}});
  }
  if (!options.vllm_names) return;
  const MetricLabels extra = {{"model_name", options.model_name}, {"engine", "0"}};
  const std::initializer_list<std::pair<const char*, const char*>> names = {
      {"fulger_requests_running", "vllm:num_requests_running"},
      {"fulger_requests_waiting", "vllm:num_requests_waiting"},
      {"fulger_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
      {"fulger_prompt_tokens_total", "vllm:prompt_tokens_total"},
      {"fulger_generation_tokens_total", "vllm:generation_tokens_total"},
      {"fulger_requests_finished_total", "vllm:request_success_total"},
      {"fulger_preemptions_total", "vllm:num_preemptions_total"},
      {"fulger_prompt_tokens_total", "vllm:prefix_cache_queries_total"},
      {"fulger_prefix_cache_hit_tokens_total", "vllm:prefix_cache_hits_total"},
      {"fulger_time_to_first_token_seconds", "vllm:time_to_first_token_seconds"},
      {"fulger_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
      {"fulger_time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds"},
      {"fulger_request_latency_seconds", "vllm:e2e_request_latency_seconds"},
      {"fulger_request_queue_seconds", "vllm:request_queue_time_seconds"},
      {"fulger_request_inference_seconds", "vllm:request_inference_time_seconds"},
      {"fulger_request_prefill_seconds", "vllm:request_prefill_time_seconds"},
      {"fulger_request_decode_seconds", "vllm:request_decode_time_seconds"},
      {"fulger_step_tokens", "vllm:iteration_tokens_total"},
      {"fulger_pictures_total", "vllm:mm_cache_queries_total"},
      {"fulger_pictures_known_total", "vllm:mm_cache_hits_total"},
      {"fulger_request_prompt_tokens", "vllm:request_prompt_tokens"},
      {"fulger_request_generation_tokens", "vllm:request_generation_tokens"},
      {"fulger_request_max_tokens", "vllm:request_params_max_tokens"},
  };
  for (const auto& [own, vllm] : names) registry->AddAlias(own, vllm, extra);
}

void ServerMetrics::Finished(const std::string& reason) {
  Labelled(kFinishedName, kFinishedHelp, {{"finished_reason", reason}}).Add();
}

void ServerMetrics::Rejected(const std::string& reason) {
  Labelled(kRejectedName, kRejectedHelp, {{"reason", reason}}).Add();
}

void ServerMetrics::HttpAnswered(const std::string& route, int code) {
  Labelled("fulger_http_requests_total", "HTTP answers by route and status code.",
           {{"route", route}, {"code", std::to_string(code)}})
      .Add();
}

Counter& ServerMetrics::Labelled(const std::string& name, const std::string& help,
                                 const MetricLabels& labels) {
  std::lock_guard lock(mu_);
  const auto key = std::make_pair(name, labels);
  auto found = labelled_.find(key);
  if (found == labelled_.end()) {
    found = labelled_.emplace(key, registry_->AddCounter(name, help, labels)).first;
  }
  return found->second;
}

}  // namespace fulger
