// Numbers within bounds, as automata over their decimal spelling: no exponent, no leading zeros. The
// arithmetic is decimal and exact.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "coordinator/grammar/dfa.h"

namespace fulger {

// sign * digits * 10^-scale, without trailing zeros behind the point.
struct Decimal {
  bool negative = false;
  std::string
      digits;         // the whole part and the fraction, no leading zeros in the whole; whole part may be "0"
  int64_t scale = 0;  // digits behind the point

  std::string_view whole() const {
    return std::string_view(digits).substr(0, digits.size() - static_cast<size_t>(scale));
  }
  std::string_view fraction() const {
    return std::string_view(digits).substr(digits.size() - static_cast<size_t>(scale));
  }
  bool zero() const { return digits.find_first_not_of('0') == std::string::npos; }
};
// From JSON's spelling. INVALID_ARGUMENT: of more than 40 digits when written out.
absl::StatusOr<Decimal> ParseDecimal(std::string_view json);

struct NumberBounds {
  struct Bound {
    Decimal value;
    bool exclusive = false;
  };
  bool integer = false;
  std::vector<Bound> least{}, most{};    // all of them hold
  std::optional<Decimal> multiple_of{};  // above 0
};
// INVALID_ARGUMENT: too large.
absl::StatusOr<Dfa> NumbersWithin(const NumberBounds& bounds, WorkBudget* budget);

}  // namespace fulger
