#include "coordinator/grammar/number_language.h"

#include <algorithm>
#include <cstdlib>

#include "coordinator/grammar/regex.h"

namespace fulger {
namespace {

constexpr size_t kMostDigits = 40;
constexpr int64_t kMostSteps = 1000;  // multipleOf, as a whole number of its last decimal place

constexpr std::string_view kAnyWhole = "(?:0|[1-9][0-9]*)";
constexpr std::string_view kAnyFraction = "(?:\\.[0-9]+)?";

// One digit from `first` to `last`; nothing where there is none.
std::string DigitBetween(int first, int last) {
  if (first > last) return "";
  return fmt::format("[{}-{}]", static_cast<char>('0' + first), static_cast<char>('0' + last));
}
void AddWay(std::string* ways, const std::string& way) {
  if (!ways->empty()) *ways += "|";
  *ways += way;
}
std::string Group(const std::string& ways) { return ways.empty() ? "[]" : "(?:" + ways + ")"; }

// Whole numbers above (or below) `digits`, without leading zeros.
std::string WholeBeyond(std::string_view digits, bool above) {
  std::string ways;
  for (size_t i = 0; i < digits.size(); ++i) {
    const int digit = digits[i] - '0';
    const int lowest = i == 0 && digits.size() > 1 ? 1 : 0;
    const std::string one = above ? DigitBetween(digit + 1, 9) : DigitBetween(lowest, digit - 1);
    if (one.empty()) continue;
    AddWay(&ways, fmt::format("{}{}[0-9]{{{}}}", digits.substr(0, i), one, digits.size() - i - 1));
  }
  if (above) {
    AddWay(&ways, fmt::format("[1-9][0-9]{{{},}}", digits.size()));
  } else if (digits.size() > 1) {
    AddWay(&ways, digits.size() == 2 ? "[0-9]" : fmt::format("0|[1-9][0-9]{{0,{}}}", digits.size() - 2));
  }
  return Group(ways);
}

// Fractions (".25", or nothing) of at least (or at most) `digits`, which end in no zero.
std::string FractionBeyond(std::string_view digits, bool above, bool exclusive) {
  std::string ways;
  for (size_t i = 0; i < digits.size(); ++i) {
    const int digit = digits[i] - '0';
    const std::string one = above ? DigitBetween(digit + 1, 9) : DigitBetween(0, digit - 1);
    if (!one.empty()) AddWay(&ways, fmt::format("\\.{}{}[0-9]*", digits.substr(0, i), one));
    if (!above && i > 0)
      AddWay(&ways, fmt::format("\\.{}", digits.substr(0, i)));  // what is cut short is less
  }
  if (!above && !digits.empty()) AddWay(&ways, "");
  if (digits.empty()) {  // a whole number
    if (above) AddWay(&ways, "\\.[0-9]*[1-9][0-9]*");
    if (!exclusive) AddWay(&ways, "(?:\\.0+)?");
  } else {
    if (above) AddWay(&ways, fmt::format("\\.{}[0-9]*[1-9][0-9]*", digits));
    if (!exclusive) AddWay(&ways, fmt::format("\\.{}0*", digits));
  }
  return Group(ways);
}

// Magnitudes, without a sign.
std::string Magnitudes(const NumberBounds::Bound& bound, bool above) {
  const Decimal& value = bound.value;
  return fmt::format("(?:{}{}|{}{})", WholeBeyond(value.whole(), above), kAnyFraction, value.whole(),
                     FractionBeyond(value.fraction(), above, bound.exclusive));
}

std::string AtLeast(const NumberBounds::Bound& bound) {
  const Decimal& value = bound.value;
  const std::string any = fmt::format("{}{}", kAnyWhole, kAnyFraction);
  if (value.negative && !value.zero()) return fmt::format("{}|-{}", any, Magnitudes(bound, /*above=*/false));
  return Magnitudes(bound, /*above=*/true);
}
std::string AtMost(const NumberBounds::Bound& bound) {
  const Decimal& value = bound.value;
  const std::string any = fmt::format("{}{}", kAnyWhole, kAnyFraction);
  if (value.negative && !value.zero()) return fmt::format("-{}", Magnitudes(bound, /*above=*/true));
  // "-0" is not below zero.
  const std::string below = fmt::format("-(?:[1-9][0-9]*{}|0\\.[0-9]*[1-9][0-9]*)", kAnyFraction);
  return fmt::format("{}|{}", below, Magnitudes(bound, /*above=*/false));
}

// Of step / 10^scale: the remainder of what was read so far, first of the whole part, then place by place.
absl::StatusOr<Dfa> Multiples(const Decimal& of) {
  const int64_t step = of.digits.size() > 6 ? kMostSteps + 1 : std::atoll(of.digits.c_str());
  if (step > kMostSteps || of.scale > 6) {
    return InvalidArgument(
        "a multiple of more than {} steps of its last decimal place, or of more than 6 places", kMostSteps);
  }
  // States: the start; behind the sign; whole part with remainder r; places p = 0..scale with remainder r.
  Dfa dfa;
  const auto whole = [](int64_t r) { return static_cast<int32_t>(2 + r); };
  const auto place = [step](int64_t p, int64_t r) { return static_cast<int32_t>(2 + step * (1 + p) + r); };
  dfa.states.resize(static_cast<size_t>(2 + step * (of.scale + 2)));
  const auto digits = [&](int32_t from, int64_t r, const auto& to) {
    for (char32_t d = 0; d < 10; ++d) {
      const int64_t next = (r * 10 + static_cast<int64_t>(d)) % step;
      dfa.states[static_cast<size_t>(from)].edges.push_back({.range = {'0' + d, '0' + d}, .to = to(next)});
    }
  };
  dfa.states[0].edges.push_back({.range = {'-', '-'}, .to = 1});
  digits(0, 0, whole);
  digits(1, 0, whole);
  int64_t shift = 1;
  for (int64_t p = 0; p < of.scale; ++p) shift = shift * 10 % step;
  for (int64_t r = 0; r < step; ++r) {
    Dfa::State& state = dfa.states[static_cast<size_t>(whole(r))];
    state.accepts = r * shift % step == 0;
    if (of.scale > 0) state.edges.push_back({.range = {'.', '.'}, .to = place(0, r)});
    digits(whole(r), r, whole);
  }
  for (int64_t p = 0; p <= of.scale; ++p) {
    int64_t left = 1;
    for (int64_t i = p; i < of.scale; ++i) left = left * 10 % step;
    for (int64_t r = 0; r < step; ++r) {
      dfa.states[static_cast<size_t>(place(p, r))].accepts = p > 0 && r * left % step == 0;
      if (p < of.scale) digits(place(p, r), r, [&](int64_t next) { return place(p + 1, next); });
    }
  }
  return Trimmed(std::move(dfa));
}

}  // namespace

absl::StatusOr<Decimal> ParseDecimal(std::string_view json) {
  Decimal value;
  if (json.starts_with('-')) {
    value.negative = true;
    json.remove_prefix(1);
  }
  const size_t e = std::min(json.find_first_of("eE"), json.size());
  int64_t exponent = e < json.size() ? std::atoll(std::string(json.substr(e + 1)).c_str()) : 0;
  for (size_t i = 0; i < e; ++i) {
    if (json[i] == '.') {
      exponent -= static_cast<int64_t>(e - i - 1);
    } else {
      value.digits += json[i];
    }
  }
  if (std::abs(exponent) > static_cast<int64_t>(kMostDigits)) {
    return InvalidArgument("a number of more than {} digits", kMostDigits);
  }
  if (exponent > 0) value.digits.append(static_cast<size_t>(exponent), '0');
  value.scale = std::max<int64_t>(0, -exponent);
  if (std::ssize(value.digits) <= value.scale) {
    value.digits.insert(0, static_cast<size_t>(value.scale + 1) - value.digits.size(), '0');
  }
  for (; value.scale > 0 && value.digits.back() == '0'; --value.scale) value.digits.pop_back();
  const size_t leading = value.digits.find_first_not_of('0');
  const size_t most = value.whole().size() - 1;  // a whole part stays
  value.digits.erase(0, std::min(leading, most));
  if (value.digits.size() > kMostDigits) {
    return InvalidArgument("a number of more than {} digits", kMostDigits);
  }
  return value;
}

absl::StatusOr<Dfa> NumbersWithin(const NumberBounds& bounds, WorkBudget* budget) {
  Dfa dfa = CompileWhole(bounds.integer ? "-?(?:0|[1-9][0-9]*)" : "-?(?:0|[1-9][0-9]*)(?:\\.[0-9]+)?");
  const auto narrow = [&](const Dfa& by) -> absl::Status {
    ASSIGN_OR_RETURN(dfa, Intersection(dfa, by, budget));
    return absl::OkStatus();
  };
  for (const NumberBounds::Bound& bound : bounds.least) RETURN_IF_ERROR(narrow(CompileWhole(AtLeast(bound))));
  for (const NumberBounds::Bound& bound : bounds.most) RETURN_IF_ERROR(narrow(CompileWhole(AtMost(bound))));
  if (bounds.multiple_of) {
    ASSIGN_OR_RETURN(const Dfa multiples, Multiples(*bounds.multiple_of));
    RETURN_IF_ERROR(narrow(multiples));
  }
  return dfa;
}

}  // namespace fulger
