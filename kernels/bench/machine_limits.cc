#include "kernels/bench/machine_limits.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/kernels.h"

namespace fulger {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kBytes = size_t{384} << 20;
constexpr int64_t kPiece = 1 << 16;  // words of one task
constexpr int64_t kRounds = 200000;  // of multiply-adds per task

double Seconds(std::chrono::steady_clock::time_point since) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - since).count();
}

// Four streams at once: more than one keeps the memory of one core busy.
uint64_t SumWords(const uint64_t* p, int64_t n) {
  typedef uint64_t Four __attribute__((vector_size(32)));
  const int64_t quarter = n / 4;
  Four sum[4] = {};
  for (int64_t i = 0; i + 4 <= quarter; i += 4) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s) {
      Four x;
      std::memcpy(&x, p + s * quarter + i, sizeof(x));
      sum[s] += x;
    }
  }
  sum[0] += sum[1] + sum[2] + sum[3];
  return sum[0][0] + sum[0][1] + sum[0][2] + sum[0][3];
}

const cpu::Kernels& Widest() {
  if (const cpu::Kernels* k = cpu::Avx512Kernels(); k != nullptr) return *k;
  if (const cpu::Kernels* k = cpu::Avx2Kernels(); k != nullptr) return *k;
  return cpu::PortableKernels();
}

template <typename F>
double MedianOfFive(F&& seconds) {
  std::array<double, 5> times{};
  for (double& t : times) t = seconds();
  std::sort(times.begin(), times.end());
  return times[2];
}

}  // namespace

LimitsProbe::LimitsProbe() : memory_(std::aligned_alloc(kHugePage, kBytes)) {
  FULGER_CHECK(memory_ != nullptr);
  (void)madvise(memory_.get(), kBytes, MADV_HUGEPAGE);
  std::memset(memory_.get(), 1, kBytes);
}

const char* LimitsProbe::instruction_set() const { return Widest().name; }

MachineLimits LimitsProbe::Measure(ComputePool& pool) {
  const auto* words = static_cast<const uint64_t*>(memory_.get());
  constexpr auto kWords = static_cast<int64_t>(kBytes / sizeof(uint64_t));
  MachineLimits limits;
  limits.read_bytes_per_second =
      static_cast<double>(kBytes) / MedianOfFive([&] {
        const auto start = std::chrono::steady_clock::now();
        pool.ParallelFor(kWords, kPiece, [&](int64_t begin, int64_t end, int) {
          sum_.fetch_add(SumWords(words + begin, end - begin), std::memory_order_relaxed);
        });
        return Seconds(start);
      });
  FULGER_CHECK(sum_ != 0);

  const cpu::Kernels& kernels = Widest();
  const int64_t tasks = 8 * pool.threads();
  std::atomic<int64_t> operations{0};
  const double seconds = MedianOfFive([&] {
    operations = 0;
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(tasks, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        operations += static_cast<int64_t>(kernels.fused_multiply_adds(kRounds));
      }
    });
    return Seconds(start);
  });
  limits.flops_per_second = static_cast<double>(operations) / seconds;
  return limits;
}

}  // namespace fulger
