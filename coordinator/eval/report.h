// The summary of a run, as text, JSON and a page.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "coordinator/eval/question_file.h"
#include "coordinator/eval/results.h"

namespace fulger {

// A table for the terminal: overall and by category, mean and 95 % interval in per cent.
std::string SummaryText(const std::vector<Result>& results, size_t questions);
// {"score", "low", "high", "count", "questions", "guessed", "cut_off", "categories": {...}}; `title` is the
// run's description.
std::string SummaryJson(std::string_view title, const std::vector<Result>& results, size_t questions);
// A page that stands alone: the summary, then every question that lost points, with pictures, response and
// answers. At most `most` questions, and it says how many it leaves out. Nothing that a model or a file says
// is taken for HTML.
std::string ReportHtml(std::string_view title, const std::vector<Question>& questions,
                       const std::vector<Result>& results, size_t most = 500);

}  // namespace fulger
