// dla-quantize from the photos to the folder.
#pragma once

#include <string>
#include <vector>

namespace dla::quantize {

enum ExitCode { kWritten = 0, kFailed = 1, kUsageError = 2, kInterrupted = 130 };

struct QuantizeOptions {
  std::string model;  // a folder; empty with `embedded`
  bool embedded = false;
  std::vector<std::string> images;
  std::vector<std::string> held_out;  // empty: some of `images`
  std::string out;
  double min_agreement = 0.99;
  double min_cosine = 0.995;
  bool force = false;
  double most_error = 0.02;  // see QuantizerOptions
  int calibrate = 200;
  int photos = 600;
  int threads = 1;
};

// Tells progress and errors on standard error, the scan's table and the report on standard output.
ExitCode RunQuantize(const QuantizeOptions& options);

}  // namespace dla::quantize
