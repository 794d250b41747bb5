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

}  // namespace fulger
