// A small file for a test to read.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <string>

namespace fulger {

// Writes `content` to a file of this process in the test's folder; returns its path, which ends in `name`.
inline std::string WriteTestFile(const std::string& name, const std::string& content) {
  const std::string path = testing::TempDir() + "/" + std::to_string(::getpid()) + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

}  // namespace fulger
