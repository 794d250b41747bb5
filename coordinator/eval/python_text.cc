#include "coordinator/eval/python_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include <fmt/format.h>

namespace fulger {
namespace {

constexpr std::string_view kSpace = " \t\n\r\f\v";

// Code points; a byte that is no UTF-8 counts as one character of its own.
std::vector<uint32_t> CodePoints(std::string_view text) {
  std::vector<uint32_t> out;
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    uint32_t value = lead;
    const size_t end = std::min(i + length, text.size());
    for (size_t j = i + 1; j < end; ++j) value = value << 8 | static_cast<unsigned char>(text[j]);
    out.push_back(value);
    i = end;
  }
  return out;
}

}  // namespace

std::string_view Strip(std::string_view text, std::string_view characters) {
  const size_t first = text.find_first_not_of(characters);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(characters) - first + 1);
}

std::string_view Strip(std::string_view text) { return Strip(text, kSpace); }

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

std::string ReplaceAll(std::string text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

std::vector<std::string> SplitWords(std::string_view text) {
  std::vector<std::string> out;
  for (size_t at = 0; (at = text.find_first_not_of(kSpace, at)) != text.npos;) {
    const size_t end = std::min(text.find_first_of(kSpace, at), text.size());
    out.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return out;
}

std::optional<double> PythonFloat(std::string_view text) {
  const std::string word(Strip(text));
  if (word.empty() || word.find_first_of("xX") != word.npos) return std::nullopt;
  const char c = word[0];
  const bool number = (c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.';
  const std::string name = Lower(word);
  if (!number && name != "inf" && name != "infinity" && name != "nan") return std::nullopt;
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  if (end != word.c_str() + word.size()) return std::nullopt;
  return value;
}

std::string PythonFloatText(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  const double size = std::abs(value);
  // repr(): the shortest digits that read back, in scientific form below 1e-4 and from 1e16 on.
  const bool scientific = size != 0 && (size < 1e-4 || size >= 1e16);
  char buffer[400];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value,
                                 scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string out(buffer, end.ptr);
  if (!scientific && out.find('.') == out.npos) out += ".0";
  return out;
}

double PythonRound(double value, int digits) {
  if (!std::isfinite(value)) return value;
  return std::strtod(fmt::format("{:.{}f}", value, std::max(digits, 0)).c_str(), nullptr);
}

size_t Utf8Length(std::string_view text) { return CodePoints(text).size(); }

size_t EditDistance(std::string_view left, std::string_view right) {
  const std::vector<uint32_t> a = CodePoints(left), b = CodePoints(right);
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({change, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::optional<std::vector<std::string>> ParseList(std::string_view text) {
  text = Strip(text);
  if (text.size() < 2 || text.front() != '[' || text.back() != ']') return std::nullopt;
  text = text.substr(1, text.size() - 2);
  std::vector<std::string> out;
  size_t at = 0;
  while (true) {
    at = text.find_first_not_of(kSpace, at);
    if (at == text.npos) return out.empty() ? std::optional(out) : std::nullopt;
    std::string item;
    if (text[at] == '\'' || text[at] == '"') {
      const char quote = text[at++];
      for (; at < text.size() && text[at] != quote; ++at) {
        if (text[at] == '\\' && at + 1 < text.size()) {
          ++at;
          item += text[at] == 'n' ? '\n' : text[at] == 't' ? '\t' : text[at];
        } else {
          item += text[at];
        }
      }
      if (at++ >= text.size()) return std::nullopt;
    } else {
      const size_t end = std::min(text.find(',', at), text.size());
      item = std::string(Strip(text.substr(at, end - at)));
      at = end;
    }
    out.push_back(std::move(item));
    at = text.find_first_not_of(kSpace, at);
    if (at == text.npos) return out;
    if (text[at++] != ',') return std::nullopt;
  }
}

}  // namespace fulger
