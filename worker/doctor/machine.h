// What this node is and what it allows, read from /proc, /sys and a few calls: facts, which the coordinator
// judges. Nothing here can fail: what cannot be read stays at the value that says so.
#pragma once

#include <string>
#include <vector>

#include "fulger/v1/doctor.pb.h"

namespace fulger {

// `address`: of this node, as other ranks dial it; its interface is described. Takes milliseconds, but for
// `mpirun
// --version`, which gets three seconds.
v1::NodeFacts LookAtNode(const std::string& address);

// Cores of this process's affinity mask, ascending.
std::vector<int> AllowedCores();
// The file of the loaded library whose name begins with `prefix`; empty: none is loaded.
std::string LoadedLibrary(const std::string& prefix);
// Where `path` is mounted, and what file system that is. Reads /proc/mounts only: a mount that hangs is named
// too.
struct Mount {
  std::string point, type;
};
Mount MountOf(const std::string& path);

}  // namespace fulger
