// Every fuzz target over its seeds, over the inputs that once broke it, and over fresh mutations of both.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/log.h"
#include "tests/fuzz/fuzz_target.h"

namespace fulger {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> Read(const fs::path& folder) {
  std::vector<std::string> contents;
  if (!fs::exists(folder)) return contents;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (!entry.is_regular_file()) continue;
    std::ifstream in(entry.path(), std::ios::binary);
    contents.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return contents;
}

// Cuts, flips, repeats and splices, as bytes and at the borders that text formats have.
std::string Mutate(std::string bytes, const std::vector<std::string>& others, std::mt19937_64& random) {
  const auto below = [&](size_t n) { return static_cast<size_t>(random() % std::max<size_t>(n, 1)); };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    const size_t at = below(bytes.size() + 1);
    switch (below(6)) {
      case 0:
        bytes.resize(at);
        break;
      case 1:
        if (at < bytes.size()) bytes[at] = static_cast<char>(random());
        break;
      case 2:
        bytes.insert(at, bytes.substr(below(bytes.size() + 1), below(64)));
        break;
      case 3:
        bytes.erase(at, below(32));
        break;
      case 4:
        bytes.insert(at, std::string(1 + below(40),
                                     "\"{}[],:\n\r\0\xFF"
                                     "0-9e"[below(15)]));
        break;
      default: {
        const std::string& other = others[below(others.size())];
        bytes = bytes.substr(0, at) + other.substr(below(other.size() + 1));
      }
    }
  }
  return bytes;
}

class Replay : public testing::TestWithParam<FuzzTarget> {};

TEST_P(Replay, SeedsAndMutations) {
  const FuzzTarget& target = GetParam();
  const fs::path tests = "tests";
  std::vector<std::string> seeds = Read(tests / target.seeds);
  ASSERT_FALSE(seeds.empty()) << target.seeds;
  for (std::string& found : Read(tests / "fuzz" / "found" / target.name)) seeds.push_back(std::move(found));
  for (const std::string& seed : seeds) target.run(seed);
  const char* fixed = std::getenv("FULGER_TEST_SEED");
  const uint64_t seed = fixed != nullptr ? std::strtoull(fixed, nullptr, 10) : std::random_device()();
  std::printf("FULGER_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 300; ++i) target.run(Mutate(seeds[random() % seeds.size()], seeds, random));
}

INSTANTIATE_TEST_SUITE_P(Targets, Replay, testing::ValuesIn(kFuzzTargets),
                         [](const auto& target) { return std::string(target.param.name); });

[[maybe_unused]] const bool kQuiet = (InitLogging("fuzz", LogLevel::kError), true);

}  // namespace
}  // namespace fulger
