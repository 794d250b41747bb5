#include "kernels/bench/gpu_bench.h"

int main(int argc, char** argv) { return fulger::GpuBenchMain(argc, argv); }
