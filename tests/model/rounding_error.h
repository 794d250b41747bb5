// How far a coarser form of the weights moves the answer.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

#include "tests/model/golden_run.h"

namespace fulger {

// Nine rows in ten stay within `bound` of `exact`, and not all are the same. Where a token chooses all
// experts its routing cannot flip, and every row stays within twice the bound: it speaks of a usual row, and
// one whose terms cancel has the same error in a smaller norm. A flip is no rounding error: there the tenth
// row is free.
inline void ExpectRowsWithin(const char* name, const TextConfig& text, const LogitsRecorder& exact,
                             const LogitsRecorder& rounded, double bound) {
  const std::vector<double> errors = RelativeErrors(exact, rounded);
  const double median = errors[errors.size() / 2];
  const double ninth = errors[errors.size() * 9 / 10];
  std::printf("%s: median %.2e, 90%% of %zu rows below %.2e, all below %.2e, bound %.2e\n", name, median,
              errors.size(), ninth, errors.back(), bound);
  EXPECT_GT(median, 0) << "the two models are the same: nothing was tested";
  EXPECT_LE(ninth, bound);
  if (text.experts == text.experts_per_token) {
    EXPECT_LE(errors.back(), 2 * bound);
  }
}

}  // namespace fulger
