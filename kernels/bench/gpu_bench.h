// The GPU benchmark as a function: its own program, and part of the bundle's.
#pragma once

namespace fulger {

int GpuBenchMain(int argc, char** argv);

}  // namespace fulger
