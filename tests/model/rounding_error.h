// How far a coarser form of the weights moves the answer.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "tests/model/golden_run.h"

namespace fulger {

// Nine rows in ten stay within `bound` of `exact`, and not all are the same.
inline void ExpectRowsWithin(const char* name, const LogitsRecorder& exact, const LogitsRecorder& rounded,
                             double bound) {
  const std::vector<double> errors = RelativeErrors(exact, rounded);
  const double median = errors[errors.size() / 2];
  const double ninth = errors[errors.size() * 9 / 10];
  std::printf("%s: median %.2e, 90%% of %zu rows below %.2e, bound %.2e\n", name, median, errors.size(),
              ninth, bound);
  EXPECT_GT(median, 0) << "the two models are the same: nothing was tested";
  EXPECT_LE(ninth, bound);
}

}  // namespace fulger
