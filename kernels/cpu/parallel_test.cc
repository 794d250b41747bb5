#include "kernels/cpu/parallel.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <vector>

namespace fulger {
namespace {

double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

TEST(ParallelFor, CoversTheRangeOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ComputePool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (const int64_t n : {0, 1, 2, 7, 64, 1000}) {
      for (const int64_t grain : {0, 1, 3, 64, 5000}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
        pool.ParallelFor(n, grain, [&](int64_t begin, int64_t end, int worker) {
          EXPECT_LT(begin, end);
          EXPECT_GE(worker, 0);
          EXPECT_LT(worker, threads);
          for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
        });
        for (const auto& h : hits)
          ASSERT_EQ(h, 1) << "n " << n << " grain " << grain << " threads " << threads;
      }
    }
  }
}

// Regions in quick succession and after pauses that are longer than the spin: no lost wake-up, no chunk of an
// old region run with a new description.
TEST(ParallelFor, ManyRegionsKeepTheirWritesApart) {
  ComputePool pool(4);
  std::vector<int64_t> out(257);
  for (int64_t round = 0; round < 3000; ++round) {
    const int64_t n = 1 + round % 257;
    const int64_t grain = 1 + round % 5;
    pool.ParallelFor(n, grain, [&out, round](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[static_cast<size_t>(i)] = round * 1000 + i;
    });
    for (int64_t i = 0; i < n; ++i) ASSERT_EQ(out[static_cast<size_t>(i)], round * 1000 + i) << round;
    if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(ParallelFor, NestedCallsRunInline) {
  ComputePool pool(3);
  std::atomic<int64_t> sum{0};
  pool.ParallelFor(20, 1, [&](int64_t begin, int64_t, int worker) {
    pool.ParallelFor(10, 1, [&, begin](int64_t b, int64_t e, int inner) {
      EXPECT_EQ(b, 0);
      EXPECT_EQ(e, 10);
      EXPECT_EQ(inner, worker);
      sum += begin;
    });
  });
  EXPECT_EQ(sum, 190);
}

TEST(ParallelFor, AnIdlePoolBurnsNoProcessorTime) {
  ComputePool pool(4);
  pool.ParallelFor(100, 1, [](int64_t, int64_t, int) {});
  const double before = CpuSeconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));  // the thing measured, not a synchronisation
  EXPECT_LT(CpuSeconds() - before, 0.05);
}

}  // namespace
}  // namespace fulger
