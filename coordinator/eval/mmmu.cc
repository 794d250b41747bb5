// MMMU's and MMMU-Pro's reading of responses.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <regex>

#include "coordinator/eval/python_text.h"
#include "coordinator/eval/scorers.h"

namespace fulger {
namespace {

struct Candidate {
  char letter;
  // Where the last mention stands; -1 where the authors' search for it fails (letters that were found as
  // "A.").
  ptrdiff_t at;
};

ptrdiff_t LastOf(const std::string& text, const std::string& what) {
  const size_t at = text.rfind(what);
  return at == text.npos ? -1 : static_cast<ptrdiff_t>(at);
}

bool Has(const std::string& text, const std::string& what) { return text.find(what) != text.npos; }

std::optional<char> Last(const std::vector<Candidate>& candidates) {
  if (candidates.empty()) return std::nullopt;
  // The first of the greatest, as numpy.argmax has it.
  return std::max_element(candidates.begin(), candidates.end(),
                          [](const Candidate& a, const Candidate& b) { return a.at < b.at; })
      ->letter;
}

// A number as (true, text of the value) or a string: what MMMU compares.
struct Term {
  std::optional<double> number;
  std::string text;
};

std::vector<Term> Normalize(std::string_view raw) {
  const std::string text(Strip(raw));
  if (const auto number = PythonFloat(ReplaceAll(text, ",", ""))) return {{PythonRound(*number, 2), {}}};
  const std::string lower = Lower(text);
  if (Utf8Length(lower) == 1) return {{std::nullopt, " " + lower}, {std::nullopt, lower + " "}};
  return {{std::nullopt, lower}};
}

std::vector<std::string> Matches(const std::string& text, const std::regex& pattern) {
  return {std::sregex_token_iterator(text.begin(), text.end(), pattern), std::sregex_token_iterator()};
}

std::vector<std::string> Numbers(const std::string& text) {
  static const std::array<std::regex, 3> patterns = {
      std::regex(R"(-?\b\d{1,3}(?:,\d{3})+\b)"),
      std::regex(R"(-?\d+(?:\.\d+)?[eE][+-]?\d+)"),
      std::regex(R"(-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d]))"),
  };
  std::vector<std::string> out;
  for (const std::regex& pattern : patterns) {
    for (std::string& match : Matches(text, pattern)) out.push_back(std::move(match));
  }
  return out;
}

// The tail after the last mention of an indicator, the shortest one of each line.
std::vector<std::string> KeyPhrases(std::string_view response) {
  std::vector<std::string> indicators = {"could be ",  "so ",    "is ",     "thus ",
                                         "therefore ", "final ", "answer ", "result "};
  const std::string lower = Lower(Strip(Strip(response), "."));
  std::vector<std::string> lines, out;
  for (size_t at = 0; at <= lower.size();) {
    const size_t end = std::min(lower.find('\n', at), lower.size());
    lines.push_back(lower.substr(at, end - at));
    at = end + 1;
  }
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i + 1 == lines.size()) indicators.emplace_back("=");
    std::string shortest;
    for (const std::string& indicator : indicators) {
      const size_t at = lines[i].rfind(indicator);
      if (at == std::string::npos) continue;
      const std::string tail(Strip(std::string_view(lines[i]).substr(at + indicator.size())));
      if (shortest.empty() || tail.size() < shortest.size()) shortest = tail;
    }
    const bool trivial =
        shortest.size() == 1 && std::string_view(":,.!?;'").find(shortest) != std::string::npos;
    if (!shortest.empty() && !trivial) out.push_back(shortest);
  }
  if (out.empty()) out.push_back(lower);
  return out;
}

}  // namespace

std::optional<char> ParseChoice(std::string_view raw, const std::vector<std::string>& options) {
  for (const char* mark : {",", ".", "!", "?", ";", ":", "'"}) raw = Strip(raw, mark);
  const std::string response = fmt::format(" {} ", raw);
  std::vector<Candidate> found;
  const auto collect = [&](std::string_view form, std::string_view position) {
    if (!found.empty()) return;
    for (size_t i = 0; i < options.size(); ++i) {
      const char letter = static_cast<char>('A' + i);
      if (Has(response, fmt::format(fmt::runtime(form), letter))) {
        found.push_back({letter, LastOf(response, fmt::format(fmt::runtime(position), letter))});
      }
    }
  };
  collect("({})", "({})");
  collect("{} ", " {} ");
  collect("{}.", " {} ");
  if (found.empty() && SplitWords(response).size() > 5) {
    const std::string lower = Lower(response);
    for (size_t i = 0; i < options.size(); ++i) {
      const std::string option = Lower(options[i]);
      if (Has(lower, option)) found.push_back({static_cast<char>('A' + i), LastOf(lower, option)});
    }
  }
  return Last(found);
}

std::optional<char> ParseFinalChoice(std::string_view response, const std::vector<std::string>& options) {
  constexpr std::string_view kMark = "Answer:";
  if (const size_t at = response.rfind(kMark); at != response.npos) {
    const std::string_view answer = Strip(response.substr(at + kMark.size()));
    std::vector<char> named;
    for (size_t i = 0; i < options.size(); ++i) {
      const char letter = static_cast<char>('A' + i);
      if (answer.find(letter) != answer.npos) named.push_back(letter);
    }
    if (named.size() == 1) return named[0];
  }
  return ParseChoice(response, options);
}

bool ScoreOpen(std::string_view response, const std::vector<std::string>& answers) {
  std::vector<Term> wanted, found;
  for (const std::string& answer : answers) {
    for (Term& term : Normalize(answer)) wanted.push_back(std::move(term));
  }
  for (const std::string& phrase : KeyPhrases(response)) {
    for (Term& term : Normalize(phrase)) found.push_back(std::move(term));
    for (const std::string& number : Numbers(phrase)) {
      for (Term& term : Normalize(number)) found.push_back(std::move(term));
    }
  }
  return std::any_of(found.begin(), found.end(), [&](const Term& have) {
    return std::any_of(wanted.begin(), wanted.end(), [&](const Term& want) {
      if (have.number.has_value() != want.number.has_value()) return false;
      return have.number.has_value() ? *have.number == *want.number : Has(have.text, want.text);
    });
  });
}

}  // namespace fulger
