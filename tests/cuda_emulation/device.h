// Included ahead of every .cu file that the emulation compiles: what nvcc gives a kernel without being asked.
// Only what our kernels use; another intrinsic does not compile until it is written here.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <math.h>

#include <array>
#include <cstring>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "tests/cuda_emulation/grid.h"
#include "tests/cuda_emulation/runtime.h"

// The toolkit's headers leave this one to nvcc. __global__, __device__ and __shared__ are empty to any other
// compiler: our __shared__ variables are `static` by their own word.
#define __launch_bounds__(...)

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

// The variables of this shared object that start as zeros. Its files are kernels, so these are the __shared__
// ones.
extern "C" {
extern char __bss_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));
}

namespace fulger::cuda_emulation {

template <typename... Params, typename... Args>
cudaError_t LaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  static_assert((std::is_trivially_copyable_v<Params> && ...));
  std::tuple<Params...> params(std::forward<Args>(args)...);
  const auto bytes = std::apply(
      [](const auto&... p) {
        return std::array<std::span<const char>, sizeof...(Params)>{
            std::span<const char>(reinterpret_cast<const char*>(&p), sizeof(p))...};
      },
      params);
  return Launch(*config, reinterpret_cast<const void*>(kernel), {__bss_start, _end}, bytes,
                [kernel, params] { std::apply(kernel, params); });
}

template <typename T>
struct Shuffle {
  T value;
  int source;
  T result;
};

}  // namespace fulger::cuda_emulation

#define cudaLaunchKernelEx ::fulger::cuda_emulation::LaunchKernelEx

inline void __syncthreads(
    const fulger::cuda_emulation::Site& site = fulger::cuda_emulation::Site::current()) {
  fulger::cuda_emulation::BlockBarrier(site);
}
inline void __syncwarp(unsigned mask = 0xffffffffU,
                       const fulger::cuda_emulation::Site& site = fulger::cuda_emulation::Site::current()) {
  fulger::cuda_emulation::WarpMeet(
      "__syncwarp", mask, nullptr, [](void* const*, unsigned) -> const char* { return nullptr; }, site);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask,
                  const fulger::cuda_emulation::Site& site = fulger::cuda_emulation::Site::current()) {
  using fulger::cuda_emulation::Shuffle;
  Shuffle<T> own{value, static_cast<int>(threadIdx.x % 32) ^ lane_mask, {}};
  fulger::cuda_emulation::WarpMeet(
      "__shfl_xor_sync", mask, &own,
      [](void* const* lanes, unsigned) -> const char* {
        for (int i = 0; i < 32; ++i) {
          auto* const lane = static_cast<Shuffle<T>*>(lanes[i]);
          if (lane == nullptr) continue;
          if (lane->source < 0 || lane->source > 31 || lanes[lane->source] == nullptr) {
            return "reads from a lane that takes no part";
          }
          lane->result = static_cast<Shuffle<T>*>(lanes[lane->source])->value;
        }
        return nullptr;
      },
      site);
  return own.result;
}
inline unsigned __ballot_sync(
    unsigned mask, int predicate,
    const fulger::cuda_emulation::Site& site = fulger::cuda_emulation::Site::current()) {
  std::pair<int, unsigned> own{predicate, 0};
  fulger::cuda_emulation::WarpMeet(
      "__ballot_sync", mask, &own,
      [](void* const* lanes, unsigned) -> const char* {
        using Lane = std::pair<int, unsigned>;
        unsigned votes = 0;
        for (unsigned i = 0; i < 32; ++i) {
          if (lanes[i] != nullptr && static_cast<Lane*>(lanes[i])->first != 0) votes |= 1U << i;
        }
        for (unsigned i = 0; i < 32; ++i) {
          if (lanes[i] != nullptr) static_cast<Lane*>(lanes[i])->second = votes;
        }
        return nullptr;
      },
      site);
  return own.second;
}

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline float __uint_as_float(unsigned x) {
  float f;
  std::memcpy(&f, &x, sizeof(f));
  return f;
}
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
// Never fused with an addition around it.
inline float __fmul_rn(float a, float b) {
  volatile float product = a * b;
  return product;
}
inline float normcdff(float x) { return static_cast<float>(0.5 * erfc(-static_cast<double>(x) * M_SQRT1_2)); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int atomicCAS(int* at, int expected, int desired) {
  const int found = *at;
  if (found == expected) *at = desired;
  return found;
}

#include "tests/cuda_emulation/wmma.h"
