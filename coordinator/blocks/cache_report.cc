#include "coordinator/blocks/cache_report.h"

#include <fmt/format.h>

namespace fulger {

std::string Describe(const CacheReport& report, int64_t prompt_tokens) {
  if (!report.used) return "the prefix cache was not used";
  std::string text = report.cached == 0
                         ? "nothing was cached"
                         : fmt::format("the first {} of {} tokens were cached", report.cached, prompt_tokens);
  if (report.lost > report.cached) {
    return text + fmt::format("; an anchor at token {} had been evicted", report.lost);
  }
  if (report.matched == 0) return text + "; no known prompt begins like this one";
  if (report.matched >= prompt_tokens) {
    return text +
           "; the whole prompt is known, but there is no anchor nearer to its end that leaves a token "
           "to run";
  }
  text += fmt::format("; known prompts first differ at token {}", report.matched);
  if (report.matched > report.cached) {
    text += fmt::format(", and between token {} and there none has an anchor", report.cached);
  }
  return text;
}

}  // namespace fulger
