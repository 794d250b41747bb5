#include "monitoring/metrics/step_metrics.h"

#include "monitoring/metrics/buckets.h"

namespace fulger {
namespace {

Histogram StepSeconds(MetricRegistry* registry, const char* kind) {
  return registry->AddHistogram("fulger_step_seconds",
                                "From a step's submission to its answer, other steps in flight included.",
                                kFirstTokenSeconds, {{"kind", kind}});
}

Counter ReadBytes(MetricRegistry* registry, const char* what) {
  return registry->AddCounter("fulger_step_read_bytes_total",
                              "Bytes that steps read from memory, by arithmetic from what they held.",
                              {{"what", what}});
}

}  // namespace

StepMetrics::StepMetrics(MetricRegistry* registry)
    : step_tokens(registry->AddHistogram("fulger_step_tokens", "Tokens per step.", kStepTokens)),
      flops(registry->AddCounter("fulger_step_flops_total",
                                 "Floating-point operations of steps, by arithmetic from what they held.")),
      weight_bytes(ReadBytes(registry, "weights")),
      state_bytes(ReadBytes(registry, "lightning_states")),
      kv_bytes(ReadBytes(registry, "kv")),
      prefill_step(StepSeconds(registry, "prefill")),
      decode_step(StepSeconds(registry, "decode")),
      mixed_step(StepSeconds(registry, "mixed")),
      request_queue(registry->AddHistogram("fulger_request_queue_seconds",
                                           "From arrival to the first plan that names the request.",
                                           kRequestSeconds)),
      request_prefill(registry->AddHistogram("fulger_request_prefill_seconds",
                                             "From the first plan to the first token.", kRequestSeconds)),
      request_decode(registry->AddHistogram("fulger_request_decode_seconds",
                                            "From the first token to the last one.", kRequestSeconds)),
      request_inference(registry->AddHistogram("fulger_request_inference_seconds",
                                               "From the first plan to the last token.", kRequestSeconds)) {}

}  // namespace fulger
