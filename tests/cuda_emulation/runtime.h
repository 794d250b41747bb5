// The runtime's inner side: what the kernels' launches (device.h) and the library's products (cublas_lt.cc)
// need beside the functions of cuda_runtime_api.h, which runtime.cc defines.
//
// Streams are lazy: work waits in its stream until the host asks for it (a synchronisation, an event, a copy
// into pageable memory, cudaFree), as late as a real device could. Code that does not wait for what it needs
// is then wrong here each time and not now and then. Everything is under one lock.
#pragma once

#include <cuda_runtime_api.h>

#include <functional>
#include <span>
#include <string>

namespace fulger::cuda_emulation {

// Puts work on a stream; it returns what is wrong, or nothing.
cudaError_t Enqueue(cudaStream_t stream, std::function<std::string()> work);

// `arguments`: the bytes of each parameter. `static_shared`: see grid.h.
cudaError_t Launch(const cudaLaunchConfig_t& config, const void* function, std::span<char> static_shared,
                   std::span<const std::span<const char>> arguments, std::function<void()> thread);

// Inside of work: what is wrong with reading or writing that range of device memory.
std::string CheckDeviceRange(const char* what, const void* p, size_t bytes);

// Every fault is printed and counted; the last one's text, for tests. Taking it forgets it.
std::string TakeReport();

}  // namespace fulger::cuda_emulation
