// What the engine does, step by step and request by request. Updated on its thread.
#pragma once

#include "monitoring/metrics/metrics.h"

namespace fulger {

struct StepMetrics {
  explicit StepMetrics(MetricRegistry* registry);

  Histogram step_tokens;
  // Of all ranks of the replicas together, by arithmetic from what each step holds.
  Counter flops, weight_bytes, state_bytes, kv_bytes;
  // From a step's submission to its answer, other steps in flight included. By what it held: prompts alone,
  // decoding sequences alone, or both.
  Histogram prefill_step, decode_step, mixed_step;
  // Of requests that ended well. A phase begins where the one before it ends; inference is prefill and decode
  // together.
  Histogram request_queue, request_prefill, request_decode, request_inference;
};

}  // namespace fulger
