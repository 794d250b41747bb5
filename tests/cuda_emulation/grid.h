// Runs a grid of a kernel on the CPU: the threads of a block are fibers of the calling thread, resumed one
// after another between the points where they meet, blocks follow each other.
//
// One grid runs at a time in the process (the runtime holds its lock), so that threadIdx and what is
// __shared__ can be plain variables.
#pragma once

#include <vector_types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <span>
#include <string>

namespace fulger::cuda_emulation {

using Site = std::source_location;

struct KernelCall {
  const void* function = nullptr;
  dim3 grid, block;
  size_t dynamic_shared = 0;      // bytes
  std::span<char> static_shared;  // holds every __shared__ variable of the kernel's shared object
  std::function<void()> thread;   // one thread of the kernel
};

inline constexpr unsigned kWarp = 32;
inline constexpr size_t kMaxThreads = 1024;
// Of an A100, the smallest of the architectures that we build for.
inline constexpr size_t kSharedBytes = 48 << 10;
inline constexpr size_t kSharedBytesOptIn = 163 << 10;

// Empty, or what went wrong: a barrier or a collective of a warp that some threads do not reach, a write past
// the dynamic shared memory. The memory is then as the threads left it.
//
// FULGER_EMULATION_ORDER: forward (each warp runs up to the barrier, the first first), backward (the last
// thread of the last block first), or random:SEED (warps interleaved, another order of lanes at each step).
// FULGER_EMULATION_DROP=FILE:LINE: the barrier there is passed by, as if it had been forgotten.
std::string RunGrid(const KernelCall& call);

// What FULGER_EMULATION_ORDER would say, from the next grid on.
void UseOrder(const std::string& order);

// Where the fault lies if a signal comes while a grid runs: kernel, block and thread; else empty.
std::string Position();

// For the kernels' side (device.h). Each returns when all threads that must come have come.
void BlockBarrier(const Site& site);
// `meet` is called once for all lanes of `mask`, with what each of them handed over (null for others); it
// returns null, or what is wrong.
using Meet = const char* (*)(void* const* lanes, unsigned mask);
void WarpMeet(const char* name, unsigned mask, void* lane, Meet meet, const Site& site);

// The name of a function of a program that was not stripped, by addr2line; for messages.
std::string FunctionName(const void* function);

}  // namespace fulger::cuda_emulation
