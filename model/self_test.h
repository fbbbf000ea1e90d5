// Photos whose answers are known, by which a model shows that it computes what it should before it
// serves. Format: docs/model-format.md.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "model/model.h"

namespace dla {

// How far an int8 network's embedding may be off whatever a self-test says, for that was perhaps
// written for the float network. A cosine of 0.995.
inline constexpr double kInt8Tolerance = 0.1;

struct SelfTestPhoto {
  std::string file;              // its name, for errors
  std::string bytes;             // JPEG, PNG or WebP
  std::string top1;              // the expected class: its label, its id or its index
  std::vector<float> embedding;  // expected; empty: not compared
  double tolerance = 0.02;       // ||found - expected|| / ||expected||, in (0, 1]
};

// Reads FOLDER/selftest; nothing where there is no such folder. NOT_FOUND for a missing file,
// INVALID_ARGUMENT for a selftest.json that is not as described, too many photos (64) or too many
// bytes (16 MiB of JSON, 64 MiB of photos). Thread-safe.
absl::StatusOr<std::vector<SelfTestPhoto>> ReadSelfTest(const std::string& folder);

// Of the model that is compiled in.
absl::StatusOr<std::vector<SelfTestPhoto>> EmbeddedSelfTest();

// Classifies each photo as timm does: decoded at full scale, not turned as EXIF says. Prepares the
// calling thread to run the model with one thread. FAILED_PRECONDITION for the first photo with
// another class or embedding, with what was expected and found; other errors are the decoder's and
// the model's. Thread-safe.
absl::Status RunSelfTest(const Model& model, absl::Span<const SelfTestPhoto> photos);

}  // namespace dla
