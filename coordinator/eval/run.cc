#include "coordinator/eval/run.h"

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "coordinator/cli/conversation.h"

namespace fulger {
namespace {

using Json = nlohmann::json;

struct Answer {
  std::string text;
  std::string finish_reason;
};

bool WorthAnotherTry(int http_status) {
  return http_status == 429 || http_status == 500 || http_status == 502 || http_status == 503 ||
         http_status == 504;
}

absl::StatusOr<Answer> ParseAnswer(const std::string& body) {
  const Json json = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  const Json::json_pointer content("/choices/0/message/content"), reason("/choices/0/finish_reason");
  if (json.is_discarded() || !json.contains(content)) {
    return DataLoss("the server's answer has no choices[0].message.content: {}", body.substr(0, 200));
  }
  Answer out;
  if (json[content].is_string()) out.text = json[content].get<std::string>();
  if (json.contains(reason) && json[reason].is_string()) out.finish_reason = json[reason].get<std::string>();
  return out;
}

absl::StatusOr<Answer> Post(const HttpClient& client, const RunSettings& settings, const std::string& body) {
  std::chrono::milliseconds pause = settings.first_pause;
  for (int attempt = 1;; ++attempt) {
    const auto response = client.Post("/v1/chat/completions", body);
    if (response.ok() && response->status == 200) return ParseAnswer(response->body);
    absl::Status error =
        response.ok() ? Unavailable("the server answered {}: {}", response->status, ErrorText(response->body))
                      : response.status();
    if ((response.ok() && !WorthAnotherTry(response->status)) || attempt >= settings.attempts) return error;
    std::this_thread::sleep_for(pause);
    pause *= 2;
  }
}

absl::StatusOr<Result> Ask(const HttpClient& client, const RunSettings& settings, const Question& question) {
  const auto begin = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(Answer answer,
                   Post(client, settings, RequestBody(settings.benchmark, question, settings.request)));
  Result result;
  if (settings.extractor.has_value() && WantsExtractor(settings.benchmark, question, answer.text)) {
    RequestSettings request;
    request.model = settings.extractor->model;
    ASSIGN_OR_RETURN(Answer extraction, Post(settings.extractor->client, settings,
                                             ExtractorBody(question, answer.text, request)));
    result.extraction = std::move(extraction.text);
  }
  const Judgement judgement = Judge(settings.benchmark, question, answer.text, result.extraction);
  result.id = question.id;
  result.category = question.category;
  result.response = std::move(answer.text);
  result.finish_reason = std::move(answer.finish_reason);
  result.parsed = judgement.parsed;
  result.score = judgement.score;
  result.guessed = judgement.guessed;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace

absl::Status RunBenchmark(const HttpClient& client, const RunSettings& settings,
                          const std::vector<const Question*>& questions, ResultsFile* file,
                          std::vector<Result>* results, const std::function<void()>& progress) {
  std::mutex mutex;
  size_t next = 0;
  absl::Status failure;
  const auto work = [&] {
    while (true) {
      const Question* question = nullptr;
      {
        const std::lock_guard lock(mutex);
        if (!failure.ok() || next == questions.size()) return;
        question = questions[next++];
      }
      auto result = Ask(client, settings, *question);
      const std::lock_guard lock(mutex);
      absl::Status status = result.ok() ? file->Append(*result) : result.status();
      if (!status.ok()) {
        if (failure.ok()) failure = Annotate(status, fmt::format("question {}", question->id));
        return;
      }
      results->push_back(*std::move(result));
      progress();
    }
  };
  const size_t count = std::min(questions.size(), static_cast<size_t>(std::max(settings.parallel, 1)));
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < count; ++i) threads.emplace_back(work);
  threads.clear();
  return failure;
}

}  // namespace fulger
