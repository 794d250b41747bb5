#include "coordinator/frontend/frontend.h"
#include "monitoring/metrics/server_metrics.h"

namespace fulger {

void ExportStats(const EngineStats& stats, ServerMetrics* metrics) {
  metrics->running.Set(static_cast<double>(stats.running));
  metrics->waiting.Set(static_cast<double>(stats.waiting));
  metrics->kv_usage.Set(stats.blocks_total == 0 ? 0
                                                : static_cast<double>(stats.blocks_used) /
                                                      static_cast<double>(stats.blocks_total));
  metrics->preemptions.RaiseTo(static_cast<double>(stats.preemptions));
}

absl::Status CheckReady(const EngineStats& stats, Duration stall_timeout) {
  if (stats.stopping) return Unavailable("not ready: the server is stopping");
  if (!stats.ready) {
    return Unavailable("not ready: {}",
                       stats.down_reason.empty() ? "the model is loading" : stats.down_reason);
  }
  if (stats.seconds_since_step < 0) return Unavailable("not ready: no step has finished yet");
  if (!stats.probe_error.empty()) return Unavailable("not ready: a probe step failed: {}", stats.probe_error);
  // Idle replicas run probe steps.
  if (stats.seconds_since_step > Seconds(stall_timeout)) {
    return Unavailable("not ready: no step has finished for {:.0f} s", stats.seconds_since_step);
  }
  return absl::OkStatus();
}

}  // namespace fulger
