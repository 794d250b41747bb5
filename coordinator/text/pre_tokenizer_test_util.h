// For this folder's tests: where the two pre-tokenizers cut a text.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coordinator/text/split_regex.h"
#include "coordinator/text/unicode_delta.h"
#include "coordinator/text/word_scanner.h"

namespace fulger {

inline std::vector<uint32_t> CutByRegex(const SplitRegex& regex, std::string_view text) {
  SplitRegex::Scratch scratch;
  std::string buffer;
  const std::string_view subject = SwapNewCodePoints(text, &buffer);
  std::vector<uint32_t> ends;
  for (size_t at = 0; at < subject.size();) {
    const absl::StatusOr<Span> match = regex.Find(subject, at, scratch);
    EXPECT_TRUE(match.ok()) << match.status().ToString();
    if (!match.ok()) break;
    if (match->begin > at) ends.push_back(static_cast<uint32_t>(match->begin));
    if (match->end > match->begin) ends.push_back(static_cast<uint32_t>(match->end));
    at = match->end;
  }
  return ends;
}

inline std::vector<uint32_t> CutByScanner(const WordScanner& scanner, std::string_view text) {
  std::vector<uint32_t> ends;
  std::array<uint32_t, 7> part;  // few, so that cutting goes on from many places
  for (size_t at = 0; at < text.size(); at = ends.back()) {
    const size_t count = scanner.Cut(text, at, part);
    if (count == 0) {
      ADD_FAILURE() << "no word at byte " << at;
      break;
    }
    ends.insert(ends.end(), part.begin(), part.begin() + static_cast<std::ptrdiff_t>(count));
  }
  return ends;
}

}  // namespace fulger
