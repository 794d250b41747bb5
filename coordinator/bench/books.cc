#include "coordinator/bench/books.h"

#include <algorithm>

namespace fulger::bench {
namespace {

int64_t CountOf(const LoadResult& result, Outcome outcome) {
  return std::count_if(result.records.begin(), result.records.end(),
                       [&](const RequestRecord& r) { return r.outcome == outcome; });
}

class Books {
 public:
  explicit Books(const LoadResult& result) : result_(result) {}

  // A line about every success for which `wrong` has words, told with the words about the first.
  template <typename Wrong>
  void Each(std::string_view line, const Wrong& wrong) {
    int64_t count = 0;
    std::string first;
    for (size_t i = 0; i < result_.records.size(); ++i) {
      const RequestRecord& record = result_.records[i];
      if (record.outcome != Outcome::kSucceeded) continue;
      std::string words = wrong(record);
      if (words.empty()) continue;
      if (++count == 1) first = fmt::format("request {}: {}", i, words);
    }
    if (count > 0) lines.push_back(fmt::format("{}: {} requests do not; {}", line, count, first));
  }
  std::vector<std::string> lines;

 private:
  const LoadResult& result_;
};

}  // namespace

std::vector<std::string> CheckBooks(const LoadResult& result, const BookRules& rules) {
  Books books(result);
  const int64_t succeeded = CountOf(result, Outcome::kSucceeded), failed = CountOf(result, Outcome::kFailed);
  const int64_t cancelled = CountOf(result, Outcome::kCancelled);
  if (result.sent != succeeded + failed + cancelled) {
    books.lines.push_back(
        fmt::format("sent = succeeded + failed + cancelled: {} sent, {} + {} + {} accounted for", result.sent,
                    succeeded, failed, cancelled));
  }
  if (succeeded == 0) books.lines.push_back(fmt::format("a request succeeds: none of {} did", result.sent));
  if (static_cast<double>(failed) > rules.allowed_failures * static_cast<double>(result.sent)) {
    const auto first = std::find_if(result.records.begin(), result.records.end(),
                                    [](const RequestRecord& r) { return r.outcome == Outcome::kFailed; });
    books.lines.push_back(fmt::format("failures within {}% of what was sent: {} of {} failed; request {}: {}",
                                      rules.allowed_failures * 100, failed, result.sent,
                                      first - result.records.begin(), first->error));
  }
  int64_t events = 0;
  for (const RequestRecord& record : result.records) events += static_cast<int64_t>(record.tokens.size());
  if (events != result.token_events) {
    books.lines.push_back(fmt::format("events counted as they came = events of the records: {} and {}",
                                      result.token_events, events));
  }
  books.Each("every success has tokens", [](const RequestRecord& r) {
    return r.tokens.empty() ? std::string("no event brought one") : std::string();
  });
  books.Each("every success has usage", [](const RequestRecord& r) {
    return r.has_usage ? std::string() : std::string("no event with empty choices brought it");
  });
  books.Each("prompt_tokens + completion_tokens = total_tokens", [](const RequestRecord& r) {
    if (r.prompt_tokens + r.completion_tokens == r.total_tokens) return std::string();
    return fmt::format("{} + {}, not {}", r.prompt_tokens, r.completion_tokens, r.total_tokens);
  });
  books.Each("usage = what was streamed", [&](const RequestRecord& r) {
    const auto streamed = static_cast<int64_t>(r.tokens.size());
    const bool equal = r.running ? r.running_tokens == r.completion_tokens : true;
    // A last token may come with the end, without text: only running usage shows that one.
    const bool counted = rules.one_token_per_event && r.running ? streamed == r.completion_tokens
                                                                : streamed <= r.completion_tokens;
    if (!r.has_usage || (equal && counted)) return std::string();
    return fmt::format("usage says {} tokens, {} events brought one, running usage ended at {}",
                       r.completion_tokens, streamed, r.running_tokens);
  });
  if (rules.one_token_per_event) {
    books.Each("running usage grows by one token per event", [](const RequestRecord& r) {
      return r.lost_tokens == 0 ? std::string() : fmt::format("{} tokens came in no event", r.lost_tokens);
    });
  }
  if (rules.exact_length) {
    books.Each("an answer that ends by length has max_tokens tokens", [](const RequestRecord& r) {
      if (r.finish_reason != "length" || r.asked_tokens == 0 || r.completion_tokens == r.asked_tokens) {
        return std::string();
      }
      return fmt::format("{} of {}", r.completion_tokens, r.asked_tokens);
    });
  }
  return std::move(books.lines);
}

}  // namespace fulger::bench
