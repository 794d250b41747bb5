// Ranks and cores in messages: "0-3,8" of {0, 1, 2, 3, 8}.
#pragma once

#include <fmt/format.h>

#include <span>
#include <string>

namespace fulger {

// `numbers` ascending.
inline std::string RunList(std::span<const int> numbers) {
  std::string text;
  for (size_t i = 0; i < numbers.size();) {
    size_t last = i;
    while (last + 1 < numbers.size() && numbers[last + 1] == numbers[last] + 1) ++last;
    text += text.empty() ? "" : ",";
    text += last == i ? std::to_string(numbers[i]) : fmt::format("{}-{}", numbers[i], numbers[last]);
    i = last + 1;
  }
  return text;
}

}  // namespace fulger
