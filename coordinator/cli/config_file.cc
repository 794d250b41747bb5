#include "coordinator/cli/config_file.h"

#include <fmt/ranges.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <optional>
#include <sstream>

#include "base/file.h"

namespace fulger {
namespace {

constexpr std::string_view kFlag = "--config";

// Takes "--config FILE" or "--config=FILE" out.
absl::StatusOr<std::optional<std::string>> TakePath(std::vector<std::string>* arguments) {
  for (size_t i = 0; i < arguments->size(); ++i) {
    const std::string argument = (*arguments)[i];
    const auto at = arguments->begin() + static_cast<std::ptrdiff_t>(i);
    if (argument == kFlag) {
      if (i + 1 == arguments->size()) return InvalidArgument("--config needs a file");
      std::string path = (*arguments)[i + 1];
      arguments->erase(at, at + 2);
      return path;
    }
    if (argument.starts_with("--config=")) {
      arguments->erase(at);
      return argument.substr(kFlag.size() + 1);
    }
  }
  return std::nullopt;
}

bool Says(const std::vector<std::string>& arguments, const std::string& flag) {
  return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
    return argument == flag || argument.starts_with(flag + "=");
  });
}

}  // namespace

absl::StatusOr<std::vector<std::string>> ExpandConfigFile(std::vector<std::string> arguments) {
  ASSIGN_OR_RETURN(const std::optional<std::string> path, TakePath(&arguments));
  if (!path.has_value()) return arguments;
  ASSIGN_OR_RETURN(const std::string text, ReadFile(*path, 1 << 20));
  std::vector<std::string> added;
  try {
    std::istringstream stream(text);
    for (const CLI::ConfigItem& item : CLI::ConfigTOML().from_config(stream)) {
      if (item.name == "++" || item.name == "--") continue;  // the parser's marks of a section
      if (!item.parents.empty()) {
        return InvalidArgument("{}: section [{}]: only plain flags are read", *path,
                               fmt::join(item.parents, "."));
      }
      const std::string flag = "--" + item.name;
      if (!Says(arguments, flag)) added.push_back(fmt::format("{}={}", flag, fmt::join(item.inputs, ",")));
    }
  } catch (const CLI::Error& error) {
    return InvalidArgument("{}: {}", *path, error.what());
  }
  arguments.insert(arguments.end(), added.begin(), added.end());
  return arguments;
}

}  // namespace fulger
