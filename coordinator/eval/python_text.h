// Small pieces of Python's behaviour that the published scorers rest on.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace fulger {

// str.strip() of ASCII white space, and of one set of characters.
std::string_view Strip(std::string_view text);
std::string_view Strip(std::string_view text, std::string_view characters);
std::string Lower(std::string_view text);  // ASCII only
std::string ReplaceAll(std::string text, std::string_view from, std::string_view to);
std::vector<std::string> SplitWords(std::string_view text);  // str.split()

// float(text): white space around it is allowed; no hexadecimal. Nothing where Python raises ValueError.
std::optional<double> PythonFloat(std::string_view text);
// str(float).
std::string PythonFloatText(double value);
// round(value, digits), correctly rounded as Python does it.
double PythonRound(double value, int digits);

// Levenshtein distance over UTF-8 characters.
size_t EditDistance(std::string_view a, std::string_view b);
size_t Utf8Length(std::string_view text);

// ["a", 'b']: a JSON list or a Python list of strings and numbers. Nothing if `text` is neither.
std::optional<std::vector<std::string>> ParseList(std::string_view text);

}  // namespace fulger
