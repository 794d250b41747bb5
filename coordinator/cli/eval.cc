// fulger eval: a benchmark file against any server of the OpenAI API.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/sha256.h"
#include "coordinator/cli/commands.h"
#include "coordinator/cli/conversation.h"
#include "coordinator/cli/http_client.h"
#include "coordinator/eval/report.h"
#include "coordinator/eval/run.h"

namespace fulger {
namespace {

constexpr uint64_t kMaxDataBytes = uint64_t{16} << 30;

struct EvalFlags {
  std::string url = "http://127.0.0.1:8000";
  std::string api_key;
  std::string model;
  std::string data;
  std::string benchmark;
  std::string out;
  std::optional<std::string> instruction;
  std::string extractor_url;
  std::string extractor_model;
  std::string extractor_api_key;
  int parallel = 4;
  int max_tokens = 0;
  double temperature = 0;
  size_t limit = 0;
};

// What must be the same for two runs to be one run.
absl::StatusOr<std::string> Describe(const EvalFlags& flags, const RunSettings& settings) {
  ASSIGN_OR_RETURN(const std::string data, ReadFile(flags.data, kMaxDataBytes));
  const nlohmann::ordered_json json = {
      {"benchmark", flags.benchmark},
      {"data", std::filesystem::path(flags.data).filename().string()},
      {"data_sha256", Sha256Hex(data)},
      {"model", settings.request.model},
      {"max_tokens", flags.max_tokens},
      {"temperature", flags.temperature},
      {"instruction", flags.instruction.has_value() ? nlohmann::ordered_json(*flags.instruction)
                                                    : nlohmann::ordered_json(nullptr)},
      {"extractor", settings.extractor.has_value() ? settings.extractor->model : ""}};
  return json.dump();
}

absl::Status WriteWhole(const std::filesystem::path& path, const std::string& text) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << text << std::flush;
  if (!out) return Unavailable("{}: cannot write", path.string());
  return absl::OkStatus();
}

// One line that is written over again on a terminal; every tenth of the way elsewhere.
class Progress {
 public:
  Progress(size_t done, size_t all) : done_(done), all_(all), first_(done) {}

  void Step(const std::vector<Result>& results) {
    ++done_;
    const bool terminal = ::isatty(2) != 0;
    if (!terminal && done_ != all_ && done_ * 10 / all_ == (done_ - 1) * 10 / all_) return;
    double sum = 0;
    for (const Result& r : results) sum += r.score;
    const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
    const double left = elapsed / static_cast<double>(done_ - first_) * static_cast<double>(all_ - done_);
    std::fprintf(stderr, "%s%zu of %zu, score so far %.1f %%, %.0f s to go%s", terminal ? "\r\x1b[K" : "",
                 done_, all_, 100 * sum / static_cast<double>(results.size()), left,
                 terminal && done_ != all_ ? "" : "\n");
  }

 private:
  size_t done_, all_, first_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

absl::Status Run(const EvalFlags& flags) {
  RunSettings settings;
  ASSIGN_OR_RETURN(settings.benchmark, ParseBenchmark(flags.benchmark));
  ASSIGN_OR_RETURN(std::vector<Question> questions, ReadQuestions(flags.data));
  if (flags.limit > 0 && questions.size() > flags.limit) questions.resize(flags.limit);
  for (Question& q : questions) {
    if (auto status = SettleAnswer(settings.benchmark, q); !status.ok()) return Annotate(status, flags.data);
  }
  ASSIGN_OR_RETURN(const Url url, ParseUrl(flags.url));
  const HttpClient client(url, flags.api_key);
  settings.request = {.model = flags.model,
                      .max_tokens = flags.max_tokens,
                      .temperature = flags.temperature,
                      .has_instruction = flags.instruction.has_value(),
                      .instruction = flags.instruction.value_or("")};
  if (settings.request.model.empty()) {
    ASSIGN_OR_RETURN(settings.request.model, FirstModel(client));
  }
  settings.parallel = flags.parallel;
  if (!flags.extractor_url.empty()) {
    ASSIGN_OR_RETURN(const Url extractor_url, ParseUrl(flags.extractor_url));
    Extractor extractor{HttpClient(extractor_url, flags.extractor_api_key), flags.extractor_model};
    if (extractor.model.empty()) {
      ASSIGN_OR_RETURN(extractor.model, FirstModel(extractor.client));
    }
    settings.extractor = std::move(extractor);
  }

  const std::filesystem::path folder(flags.out);
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return Unavailable("{}: cannot be made: {}", flags.out, error.message());
  ASSIGN_OR_RETURN(const std::string description, Describe(flags, settings));
  std::vector<Result> results;
  ASSIGN_OR_RETURN(ResultsFile file,
                   ResultsFile::Open((folder / "results.jsonl").string(), description, &results));
  std::set<std::string> answered, asked;
  for (const Question& q : questions) asked.insert(q.id);
  std::erase_if(results,
                [&](const Result& r) { return !asked.contains(r.id) || !answered.insert(r.id).second; });
  std::vector<const Question*> open;
  for (const Question& q : questions) {
    if (!answered.contains(q.id)) open.push_back(&q);
  }
  if (!results.empty()) std::fprintf(stderr, "%zu answers from an earlier run\n", results.size());
  Progress progress(results.size(), questions.size());
  const absl::Status status =
      RunBenchmark(client, settings, open, &file, &results, [&] { progress.Step(results); });
  if (!status.ok()) {
    return Annotate(status, fmt::format("{} of {} answered; the same command goes on from there",
                                        results.size(), questions.size()));
  }
  std::sort(results.begin(), results.end(), [](const Result& a, const Result& b) { return a.id < b.id; });
  RETURN_IF_ERROR(WriteWhole(folder / "summary.json", SummaryJson(description, results, questions.size())));
  RETURN_IF_ERROR(WriteWhole(folder / "report.html", ReportHtml(description, questions, results)));
  std::fputs(SummaryText(results, questions.size()).c_str(), stdout);
  std::printf("%s: results.jsonl, summary.json, report.html\n", flags.out.c_str());
  return absl::OkStatus();
}

}  // namespace

void AddEval(CLI::App* app, int* exit_code) {
  auto flags = std::make_shared<EvalFlags>();
  CLI::App* command = app->add_subcommand("eval", "score a server on a benchmark file");
  command
      ->add_option("--data", flags->data, "questions: TSV with base64 pictures or JSONL with picture paths")
      ->required();
  command->add_option("--benchmark", flags->benchmark, "how it is asked and scored")
      ->required()
      ->check(CLI::IsMember(BenchmarkNames()));
  command->add_option("--out", flags->out, "folder of results; a run that was broken off goes on there")
      ->required();
  command->add_option("--url", flags->url, "of the server, http or https")->capture_default_str();
  command->add_option("--api-key", flags->api_key, "bearer token");
  command->add_option("--model", flags->model, "default: the first one that the server lists");
  command->add_option("--parallel", flags->parallel, "questions in flight")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_option("--max-tokens", flags->max_tokens, "of each response; 0: the server's default")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--temperature", flags->temperature, "0: greedy")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--limit", flags->limit, "the first so many questions; 0: all")->capture_default_str();
  command->add_option("--instruction", flags->instruction,
                      "what stands behind each question, in the place of the benchmark's own; may be empty");
  command->add_option("--extractor-url", flags->extractor_url,
                      "mathvista: a server whose model reads answers out of responses; without it rules do");
  command->add_option("--extractor-model", flags->extractor_model,
                      "default: the first one that server lists");
  command->add_option("--extractor-api-key", flags->extractor_api_key, "bearer token of that server");
  command->callback([flags, exit_code] {
    const absl::Status status = Run(*flags);
    if (!status.ok()) std::fprintf(stderr, "fulger eval: %s\n", Message(status).c_str());
    *exit_code = status.ok() ? 0 : 1;
  });
}

}  // namespace fulger
