// One log line format for every process: time, level, who (set once), message, to standard error.
// Thread-safe. Level from --log-level; the default is info.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <utility>

namespace fulger {

enum class LogLevel { kDebug, kInfo, kWarn, kError };

// `who` is short: "coordinator", "rank 3". Call once, early in main.
void InitLogging(std::string_view who, LogLevel level = LogLevel::kInfo);
bool LogEnabled(LogLevel level);
void LogMessage(LogLevel level, std::string_view message);

template <typename... Args>
void Log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (LogEnabled(level)) LogMessage(level, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void LogDebug(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kDebug, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kInfo, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarn(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kWarn, format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kError, format, std::forward<Args>(args)...);
}

}  // namespace fulger
