#include "coordinator/eval/scorers.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <regex>

#include "coordinator/eval/python_text.h"

namespace fulger {
namespace {

std::optional<double> Number(std::string_view text) {
  if (!text.ends_with('%')) return PythonFloat(text);
  const auto percent = PythonFloat(text.substr(0, text.find_last_not_of('%') + 1));
  return percent.has_value() ? std::optional(*percent / 100) : std::nullopt;
}

std::string Folded(std::string_view text, bool spaces) {
  const std::string one_line = ReplaceAll(std::string(Strip(text)), "\n", " ");
  return spaces ? Lower(one_line) : ReplaceAll(one_line, " ", "");
}

std::string OneSpaced(std::string_view text) {
  return fmt::format("{}", fmt::join(SplitWords(Lower(text)), " "));
}

// int(text): digits with a sign.
std::optional<long long> PythonInt(std::string_view text) {
  const std::string word(Strip(text));
  static const std::regex pattern("[+-]?[0-9]{1,18}");
  if (!std::regex_match(word, pattern)) return std::nullopt;
  return std::strtoll(word.c_str(), nullptr, 10);
}

}  // namespace

bool RelaxedAccuracy(std::string_view response, std::string_view answer) {
  const auto found = Number(response), wanted = Number(answer);
  if (found.has_value() && wanted.has_value() && *wanted != 0) {
    return std::abs(*found - *wanted) / std::abs(*wanted) <= 0.05;
  }
  return Lower(response) == Lower(answer);
}

double Anls(std::string_view response, const std::vector<std::string>& answers) {
  double best = 0;
  const std::string found = OneSpaced(response);
  for (const std::string& answer : answers) {
    const std::string wanted = OneSpaced(answer);
    const size_t longer = std::max(Utf8Length(found), Utf8Length(wanted));
    const double distance =
        longer == 0 ? 0.0 : static_cast<double>(EditDistance(found, wanted)) / static_cast<double>(longer);
    best = std::max(best, 1 - distance);
  }
  return best < 0.5 ? 0.0 : best;
}

bool Contains(std::string_view response, const std::vector<std::string>& answers, bool spaces) {
  const std::string found = Folded(response, spaces);
  return std::any_of(answers.begin(), answers.end(), [&](const std::string& answer) {
    return found.find(Folded(answer, spaces)) != found.npos;
  });
}

std::optional<std::string> MathVistaDirect(std::string_view response, const MathVistaQuestion& question) {
  if (response.empty()) return std::string();
  if (std::find(question.options.begin(), question.options.end(), response) != question.options.end()) {
    return std::string(response);
  }
  if (question.options.empty() && question.answer_type == "integer") {
    if (const auto value = PythonInt(response)) return fmt::format("{}", *value);
  }
  if (question.options.empty() && question.answer_type == "float") {
    if (const auto value = PythonFloat(response)) return PythonFloatText(*value);
  }
  constexpr std::string_view kBegin = "The answer is \"", kEnd = "\".";
  if (const size_t at = response.find(kBegin); at != response.npos) {
    const std::string_view rest = response.substr(at + kBegin.size());
    const std::string_view line = rest.substr(0, rest.find('\n'));
    if (const size_t end = line.rfind(kEnd); end != line.npos) return std::string(line.substr(0, end));
  }
  return std::nullopt;
}

std::optional<std::string> MathVistaNormalize(std::string_view extraction,
                                              const MathVistaQuestion& question) {
  if (!question.options.empty()) {
    std::string text(Strip(extraction));
    static const std::regex letter(R"(\(([a-zA-Z])\))");
    if (std::smatch match; std::regex_search(text, match, letter)) {
      text = match[1].str();
      if (text[0] >= 'a') text[0] = static_cast<char>(text[0] - 'a' + 'A');
    }
    if (text.size() == 1 && text[0] >= 'A' && text[0] < static_cast<char>('A' + question.options.size())) {
      return question.options[static_cast<size_t>(text[0] - 'A')];
    }
    return *std::min_element(question.options.begin(), question.options.end(),
                             [&](const std::string& a, const std::string& b) {
                               return EditDistance(text, a) < EditDistance(text, b);
                             });
  }
  if (question.answer_type == "integer" || question.answer_type == "float") {
    const auto value = PythonFloat(extraction);
    if (!value.has_value() || !std::isfinite(*value)) return std::nullopt;
    if (question.answer_type == "float") return PythonFloatText(PythonRound(*value, question.precision));
    return fmt::format("{:.0f}", std::trunc(*value) + 0.0);  // + 0: no negative zero
  }
  return std::string(extraction);
}

}  // namespace fulger
