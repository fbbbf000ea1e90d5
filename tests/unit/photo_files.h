// Photos that the tests read.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

namespace dla {

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.is_open()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// A file of tests/golden/preprocess/inputs, which make_preprocess_golden.py writes.
inline std::string GoldenInput(const std::string& name) {
  return ReadFile(DLA_TEST_GOLDEN "/preprocess/inputs/" + name);
}

}  // namespace dla
