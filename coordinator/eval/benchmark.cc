#include "coordinator/eval/benchmark.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <utility>

#include "base/sha256.h"
#include "coordinator/eval/python_text.h"
#include "coordinator/eval/scorers.h"

namespace fulger {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::pair<std::string_view, Benchmark>, 8> kNames = {
    {{"mmmu", Benchmark::kMmmu},
     {"mmmu-pro", Benchmark::kMmmuPro},
     {"ai2d", Benchmark::kAi2d},
     {"chartqa", Benchmark::kChartQa},
     {"docvqa", Benchmark::kDocVqa},
     {"ocrbench", Benchmark::kOcrBench},
     {"mathvista", Benchmark::kMathVista},
     {"exact", Benchmark::kExact}}};

std::string Instruction(Benchmark benchmark, const Question& question) {
  switch (benchmark) {
    case Benchmark::kMmmu:
    case Benchmark::kAi2d:
      return question.options.empty() ? "Answer the question with one word or a short phrase."
                                      : "Answer with the letter of the right option.";
    case Benchmark::kMmmuPro:
      return "Think step by step. End with a line of the form 'Answer: X', where X is the letter of one "
             "option.";
    case Benchmark::kChartQa:
    case Benchmark::kDocVqa:
      return "Answer the question with one word, number or short phrase.";
    case Benchmark::kOcrBench:
    case Benchmark::kMathVista:
    case Benchmark::kExact:
      return {};
  }
  return {};
}

bool ByLetter(Benchmark benchmark) {
  return benchmark == Benchmark::kMmmu || benchmark == Benchmark::kMmmuPro || benchmark == Benchmark::kAi2d;
}

Judgement JudgeLetter(std::optional<char> letter, const Question& question) {
  Judgement out;
  if (!letter.has_value()) {
    out.guessed = true;
    const std::string digest = Sha256Hex(question.id);
    letter = static_cast<char>('A' + std::stoul(digest.substr(0, 8), nullptr, 16) % question.options.size());
  }
  out.parsed = std::string(1, *letter);
  out.score = std::count(question.answers.begin(), question.answers.end(), out.parsed) > 0 ? 1 : 0;
  return out;
}

MathVistaQuestion ForMathVista(const Question& q) { return {q.options, q.answer_type, q.precision}; }

// Where no extractor is at hand: the last number, or the last option named.
std::string ByRules(const Question& question, std::string_view response) {
  if (!question.options.empty()) {
    if (const auto letter = ParseChoice(response, question.options)) return std::string(1, *letter);
    return std::string(response);
  }
  const std::string text = ReplaceAll(std::string(response), ",", "");
  static const std::regex number(R"(-?(?:[0-9]+\.?[0-9]*|\.[0-9]+))");
  std::string last;
  for (std::sregex_iterator at(text.begin(), text.end(), number), end; at != end; ++at) last = at->str();
  return last;
}

std::string MathVistaAnswer(const Question& question) {
  // A choice's answer is its text; some files have its letter.
  const std::string& answer = question.answers[0];
  const bool letter =
      answer.size() == 1 && answer[0] >= 'A' && answer[0] < static_cast<char>('A' + question.options.size());
  return letter ? question.options[static_cast<size_t>(answer[0] - 'A')] : answer;
}

}  // namespace

absl::StatusOr<Benchmark> ParseBenchmark(std::string_view name) {
  for (const auto& [known, benchmark] : kNames) {
    if (known == name) return benchmark;
  }
  return InvalidArgument("--benchmark {}: expected one of {}", name, fmt::join(BenchmarkNames(), ", "));
}

std::vector<std::string> BenchmarkNames() {
  std::vector<std::string> out;
  for (const auto& [name, benchmark] : kNames) out.emplace_back(name);
  return out;
}

absl::Status SettleAnswer(Benchmark benchmark, Question& question) {
  if (!ByLetter(benchmark) || question.options.empty()) return absl::OkStatus();
  const auto& options = question.options;
  for (std::string& answer : question.answers) {
    std::optional<size_t> option;
    if (answer.size() == 1 && answer[0] >= 'A') option = static_cast<size_t>(answer[0] - 'A');
    if (benchmark == Benchmark::kAi2d && answer.size() == 1 && answer[0] >= '0' && answer[0] <= '9') {
      option = static_cast<size_t>(answer[0] - '0');
    }
    if (!option || *option >= options.size()) {
      const auto at = std::find(options.begin(), options.end(), answer);
      if (at == options.end()) {
        return InvalidArgument(
            "question {}: the answer \"{}\" is no letter, index or text of one of its {} options",
            question.id, answer, options.size());
      }
      option = static_cast<size_t>(at - options.begin());
    }
    answer = std::string(1, static_cast<char>('A' + *option));
  }
  return absl::OkStatus();
}

bool WantsExtractor(Benchmark benchmark, const Question& question, std::string_view response) {
  return benchmark == Benchmark::kMathVista && !MathVistaDirect(response, ForMathVista(question)).has_value();
}

Judgement Judge(Benchmark benchmark, const Question& question, std::string_view response,
                std::string_view extraction) {
  Judgement out;
  switch (benchmark) {
    case Benchmark::kMmmu:
    case Benchmark::kMmmuPro:
    case Benchmark::kAi2d:
      if (question.options.empty()) {
        out.parsed = std::string(response);
        out.score = ScoreOpen(response, question.answers) ? 1 : 0;
        return out;
      }
      return JudgeLetter(benchmark == Benchmark::kMmmuPro ? ParseFinalChoice(response, question.options)
                                                          : ParseChoice(response, question.options),
                         question);
    case Benchmark::kChartQa:
      out.parsed = std::string(Strip(response));
      out.score = std::any_of(question.answers.begin(), question.answers.end(),
                              [&](const std::string& answer) { return RelaxedAccuracy(out.parsed, answer); })
                      ? 1
                      : 0;
      return out;
    case Benchmark::kDocVqa:
      out.parsed = std::string(Strip(response));
      out.score = Anls(out.parsed, question.answers);
      return out;
    case Benchmark::kOcrBench:
      out.parsed = std::string(Strip(response));
      out.score = Contains(response, question.answers, /*spaces=*/question.dataset != "HME100k") ? 1 : 0;
      return out;
    case Benchmark::kMathVista: {
      const MathVistaQuestion form = ForMathVista(question);
      std::optional<std::string> found = MathVistaDirect(response, form);
      if (!found) found = extraction.empty() ? ByRules(question, response) : std::string(extraction);
      const auto normal = MathVistaNormalize(*found, form);
      out.parsed = normal.value_or("");
      out.score = normal.has_value() && *normal == MathVistaAnswer(question) ? 1 : 0;
      return out;
    }
    case Benchmark::kExact:
      out.parsed = std::string(Strip(response));
      out.score = std::count(question.answers.begin(), question.answers.end(), out.parsed) > 0 ? 1 : 0;
      return out;
  }
  return out;
}

std::string PromptText(Benchmark benchmark, const Question& question, const RequestSettings& settings) {
  std::string text = question.hint.empty() ? question.text : question.hint + "\n" + question.text;
  for (size_t i = 0; i < question.options.size(); ++i) {
    text += fmt::format("\n({}) {}", static_cast<char>('A' + i), question.options[i]);
  }
  const std::string instruction =
      settings.has_instruction ? settings.instruction : Instruction(benchmark, question);
  return instruction.empty() ? text : text + "\n" + instruction;
}

std::string RequestBody(Benchmark benchmark, const Question& question, const RequestSettings& settings) {
  const std::string text = PromptText(benchmark, question, settings);
  const auto picture = [&](size_t i) {
    return Json{{"type", "image_url"}, {"image_url", {{"url", question.pictures[i]}}}};
  };
  Json named = Json::array();
  std::vector<bool> used(question.pictures.size(), false);
  static const std::regex mark("<image ([0-9]{1,2})>");
  size_t from = 0;
  const auto add_text = [&](std::string part) {
    if (!part.empty()) named.push_back({{"type", "text"}, {"text", std::move(part)}});
  };
  for (std::sregex_iterator at(text.begin(), text.end(), mark), end; at != end; ++at) {
    const size_t number = std::stoul((*at)[1].str());
    if (number < 1 || number > used.size() || used[number - 1]) continue;
    const auto begin = static_cast<size_t>(at->position());
    add_text(text.substr(from, begin - from));
    named.push_back(picture(number - 1));
    used[number - 1] = true;
    from = begin + static_cast<size_t>(at->length());
  }
  add_text(text.substr(from));
  Json content = Json::array();
  for (size_t i = 0; i < used.size(); ++i) {
    if (!used[i]) content.push_back(picture(i));
  }
  for (Json& part : named) content.push_back(std::move(part));
  Json body = {{"model", settings.model},
               {"messages", Json::array({{{"role", "user"}, {"content", content}}})},
               {"temperature", settings.temperature}};
  if (settings.max_tokens > 0) body["max_tokens"] = settings.max_tokens;
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string ExtractorBody(const Question& question, std::string_view response,
                          const RequestSettings& settings) {
  std::string text = fmt::format(
      "A question and a model's response follow. Write the answer that the response gives and nothing else: "
      "a number "
      "alone, or the letter of an option.\n\nQuestion: {}",
      question.text);
  for (size_t i = 0; i < question.options.size(); ++i) {
    text += fmt::format("\n({}) {}", static_cast<char>('A' + i), question.options[i]);
  }
  text += fmt::format("\n\nResponse: {}\n\nAnswer:", response);
  const Json body = {{"model", settings.model},
                     {"messages", Json::array({{{"role", "user"}, {"content", text}}})},
                     {"max_tokens", 64},
                     {"temperature", 0}};
  return body.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fulger
