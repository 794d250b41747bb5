// nvcuda::wmma for 16 x 16 x 16 tiles of bfloat16 with float32 sums, which the toolkit's mma.h gives to nvcc
// alone. A lane holds the elements lane * n .. lane * n + n - 1 of its tile, row by row; a kernel that counts
// on a layout is wrong here as it is on the next GPU. Sums are float32 in ascending k: not how tensor cores
// round.
#pragma once

#include "tests/cuda_emulation/grid.h"

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <typename Use, int M, int N, int K, typename T, typename Layout = void>
struct fragment {
  static_assert(M == 16 && N == 16 && K == 16);
  using element_type = T;
  static constexpr int num_elements = 256 / 32;
  T x[num_elements];
};

namespace emulation {

using fulger::cuda_emulation::Meet;
using fulger::cuda_emulation::Site;
using fulger::cuda_emulation::WarpMeet;

constexpr unsigned kAllLanes = 0xffffffffU;

template <typename T>
struct Access {
  T* elements;  // of the lane's fragment
  T* memory;
  unsigned ld;
};

// What all lanes must agree on, and how the hardware wants it aligned.
template <typename T>
const char* Wrong(void* const* lanes) {
  const auto& first = *static_cast<Access<T>*>(lanes[0]);
  for (int i = 0; i < 32; ++i) {
    const auto& lane = *static_cast<Access<T>*>(lanes[i]);
    if (lane.memory != first.memory || lane.ld != first.ld) return "lanes name different tiles";
  }
  if (reinterpret_cast<uintptr_t>(first.memory) % 32 != 0) return "the tile is not aligned to 32 bytes";
  if (first.ld % (16 / sizeof(T)) != 0) return "rows are not a multiple of 16 bytes apart";
  return nullptr;
}

template <typename T, bool kRows, bool kLoad>
const char* Move(void* const* lanes, unsigned) {
  if (const char* wrong = Wrong<T>(lanes)) return wrong;
  for (int i = 0; i < 256; ++i) {
    const auto& lane = *static_cast<Access<T>*>(lanes[i / 8]);
    const int row = i / 16;
    const int column = i % 16;
    T& memory = kRows ? lane.memory[row * lane.ld + column] : lane.memory[column * lane.ld + row];
    if (kLoad) {
      lane.elements[i % 8] = memory;
    } else {
      memory = lane.elements[i % 8];
    }
  }
  return nullptr;
}

template <typename A, typename B>
struct Operands {
  const A* a;
  const B* b;
  const float* c;
  float* d;
};

template <typename A, typename B>
const char* Multiply(void* const* lanes, unsigned) {
  const auto lane = [&](int element) -> Operands<A, B>& {
    return *static_cast<Operands<A, B>*>(lanes[element / 8]);
  };
  float a[256];
  float b[256];
  for (int i = 0; i < 256; ++i) {
    a[i] = static_cast<float>(lane(i).a[i % 8]);
    b[i] = static_cast<float>(lane(i).b[i % 8]);
  }
  for (int i = 0; i < 256; ++i) {
    float sum = lane(i).c[i % 8];
    for (int k = 0; k < 16; ++k) sum += a[i / 16 * 16 + k] * b[k * 16 + i % 16];
    lane(i).d[i % 8] = sum;
  }
  return nullptr;
}

}  // namespace emulation

template <typename Use, typename T, typename V>
void fill_fragment(fragment<Use, 16, 16, 16, T>& f, V value) {
  for (T& x : f.x) x = value;
}

template <typename Use, typename T, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, T, Layout>& f, const T* memory, unsigned ld,
                      const emulation::Site& site = emulation::Site::current()) {
  constexpr bool kRows = std::is_same_v<Layout, row_major>;
  emulation::Access<T> own{f.x, const_cast<T*>(memory), ld};
  emulation::WarpMeet("load_matrix_sync", emulation::kAllLanes, &own, &emulation::Move<T, kRows, true>, site);
}

inline void store_matrix_sync(float* memory, const fragment<accumulator, 16, 16, 16, float>& f, unsigned ld,
                              layout_t layout, const emulation::Site& site = emulation::Site::current()) {
  emulation::Access<float> own{const_cast<float*>(f.x), memory, ld};
  const emulation::Meet move =
      layout == mem_row_major ? &emulation::Move<float, true, false> : &emulation::Move<float, false, false>;
  emulation::WarpMeet("store_matrix_sync", emulation::kAllLanes, &own, move, site);
}

template <typename A, typename B, typename LayoutA, typename LayoutB>
void mma_sync(fragment<accumulator, 16, 16, 16, float>& d,
              const fragment<matrix_a, 16, 16, 16, A, LayoutA>& a,
              const fragment<matrix_b, 16, 16, 16, B, LayoutB>& b,
              const fragment<accumulator, 16, 16, 16, float>& c,
              const emulation::Site& site = emulation::Site::current()) {
  emulation::Operands<A, B> own{a.x, b.x, c.x, d.x};
  emulation::WarpMeet("mma_sync", emulation::kAllLanes, &own, &emulation::Multiply<A, B>, site);
}

}  // namespace nvcuda::wmma
