// --config FILE for every subcommand: the file holds the subcommand's own flags by name, and what is said on
// the command line wins.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"

namespace fulger {

// `arguments` without the program's name. Replaces "--config FILE" by the file's entries that are not among
// the arguments already: `tp = 2` becomes "--tp=2", `stage-layers = [3, 5]` "--stage-layers=3,5".
absl::StatusOr<std::vector<std::string>> ExpandConfigFile(std::vector<std::string> arguments);

}  // namespace fulger
