#include "coordinator/grammar/string_formats.h"

#include <fmt/format.h>

#include <map>
#include <mutex>
#include <optional>

#include "coordinator/grammar/regex.h"

namespace fulger {
namespace {

// RFC 3339. No year 0, no leap seconds; at most nine digits of a second.
constexpr std::string_view kYear = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})";
constexpr std::string_view kLeapYear =
    "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)";
constexpr std::string_view kTime =
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
// RFC 1123: up to seven labels of up to 31 characters each, and none with two hyphens in a row.
constexpr std::string_view kHost =
    "[A-Za-z0-9]{1,15}(?:-[A-Za-z0-9]{1,15})?(?:\\.[A-Za-z0-9]{1,15}(?:-[A-Za-z0-9]{1,15})?){0,6}";
constexpr std::string_view kByte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
constexpr std::string_view kPathCharacter = "[A-Za-z0-9._~!$&'()*+,;=:@-]";

std::string Date() {
  return fmt::format(
      "(?:{0}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|"
      "02-(?:0[1-9]|1[0-9]|2[0-8]))|{1}-02-29)",
      kYear, kLeapYear);
}

// RFC 3339, appendix A.
std::string Duration() {
  constexpr std::string_view kSecond = "[0-9]{1,9}S";
  const std::string minute = fmt::format("[0-9]{{1,9}}M(?:{})?", kSecond);
  const std::string time = fmt::format("T(?:[0-9]{{1,9}}H(?:{1})?|{1}|{0})", kSecond, minute);
  constexpr std::string_view kDay = "[0-9]{1,9}D";
  const std::string month = fmt::format("[0-9]{{1,9}}M(?:{})?", kDay);
  const std::string date = fmt::format("(?:{1}|{0}|[0-9]{{1,9}}Y(?:{1})?)(?:{2})?", kDay, month, time);
  return fmt::format("P(?:{}|{}|[0-9]{{1,9}}W)", date, time);
}

// RFC 4291: eight groups, or "::" for one or more that are zero. No IPv4 at the end.
std::string Ipv6() {
  constexpr std::string_view kGroup = "[0-9A-Fa-f]{1,4}";
  std::string all = fmt::format("(?:{0}:){{7}}{0}", kGroup);
  for (int left = 0; left <= 7; ++left) {
    const std::string before = left == 0 ? "" : fmt::format("{0}(?::{0}){{{1}}}", kGroup, left - 1);
    const int right = 7 - left;
    const std::string after = right == 0 ? "" : fmt::format("(?:{0}(?::{0}){{0,{1}}})?", kGroup, right - 1);
    all += fmt::format("|{}::{}", before, after);
  }
  return all;
}

std::string Email() {
  constexpr std::string_view kAtom = "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+";
  return fmt::format("{0}(?:\\.{0})*@{1}", kAtom, kHost);
}

// Of the web, without percent signs.
std::string Uri() {
  return fmt::format("https?://{0}(?::[1-9][0-9]{{0,3}})?(?:/{1}*)*(?:\\?(?:{1}|[/?])*)?(?:#(?:{1}|[/?])*)?",
                     kHost, kPathCharacter);
}

const std::map<std::string, std::string, std::less<>>& Expressions() {
  static const std::map<std::string, std::string, std::less<>> expressions = {
      {"date", Date()},
      {"date-time", fmt::format("{}T{}", Date(), kTime)},
      {"duration", Duration()},
      {"email", Email()},
      {"hostname", std::string(kHost)},
      {"ipv4", fmt::format("{0}(?:\\.{0}){{3}}", kByte)},
      {"ipv6", Ipv6()},
      {"json-pointer", "(?:/(?:[^~/]|~[01])*)*"},
      {"time", std::string(kTime)},
      {"uri", Uri()},
      {"uuid", "[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"},
  };
  return expressions;
}

}  // namespace

const Dfa* StringFormat(std::string_view name) {
  static std::mutex mu;
  static std::map<std::string, Dfa, std::less<>> compiled;
  const auto expression = Expressions().find(name);
  if (expression == Expressions().end()) return nullptr;
  std::lock_guard lock(mu);
  auto found = compiled.find(name);
  if (found == compiled.end()) {
    found = compiled.emplace(expression->first, CompileWhole(expression->second)).first;
  }
  return &found->second;
}

std::string KnownStringFormats() {
  std::string names;
  for (const auto& [name, expression] : Expressions()) names += (names.empty() ? "" : ", ") + name;
  return names;
}

}  // namespace fulger
