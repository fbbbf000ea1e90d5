#include "model/self_test.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "model/json.h"
#include "model/preprocess.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "model/top_k.h"
#include "model/whole_file.h"

// See dla_embed_file in model/CMakeLists.txt.
extern "C" {
extern const unsigned char dla_flowers5_selftest[];
extern const unsigned char dla_flowers5_selftest_end[];
extern const unsigned char dla_flowers5_selftest_photo[];
extern const unsigned char dla_flowers5_selftest_photo_end[];
}

namespace dla {
namespace {

using nlohmann::json;

constexpr size_t kMaxPhotos = 64;
constexpr uintmax_t kMaxJsonBytes = 16 << 20;
constexpr uintmax_t kMaxPhotoBytes = 64 << 20;  // of all photos together
constexpr size_t kMaxEmbedding = 1 << 16;

// The bytes of a photo by its name, of which there must not be more than `most`.
using PhotoReader =
    absl::FunctionRef<absl::StatusOr<std::string>(const std::string& file, uintmax_t most)>;

absl::StatusOr<std::string> Read(const std::string& path, uintmax_t most) {
  return ReadWholeFile(path, most,
                       "a folder selftest holds selftest.json and the photos that it names");
}

absl::Status ReadEmbedding(const json& value, std::vector<float>& embedding) {
  if (!value.is_array() || value.empty() || value.size() > kMaxEmbedding) {
    return absl::InvalidArgumentError(
        absl::StrCat("embedding must be an array of 1 to ", kMaxEmbedding, " numbers"));
  }
  for (const json& element : value) {
    const float number = element.is_number() ? element.get<float>() : NAN;
    if (!std::isfinite(number)) {
      return absl::InvalidArgumentError("embedding must hold float32 numbers alone");
    }
    embedding.push_back(number);
  }
  return absl::OkStatus();
}

// All but the bytes.
absl::StatusOr<SelfTestPhoto> ParsePhoto(const json& object) {
  if (!object.is_object()) return absl::InvalidArgumentError("it must be an object");
  SelfTestPhoto photo;
  for (const auto& [key, value] : object.items()) {
    if (key == "file") {
      if (value.is_string()) photo.file = value.get<std::string>();
    } else if (key == "top1") {
      if (value.is_string()) photo.top1 = value.get<std::string>();
      if (value.is_number_unsigned()) photo.top1 = absl::StrCat(value.get<uint64_t>());
    } else if (key == "embedding") {
      DLA_RETURN_IF_ERROR(ReadEmbedding(value, photo.embedding));
    } else if (key == "tolerance") {
      photo.tolerance = value.is_number() ? value.get<double>() : 0;
      if (!(photo.tolerance > 0 && photo.tolerance <= 1)) {
        return absl::InvalidArgumentError("tolerance must be a number over 0 and at most 1");
      }
    } else if (key != "comment") {
      return absl::InvalidArgumentError(
          absl::StrCat("unknown field ", Quoted(key),
                       "; known are file, top1, embedding, tolerance and comment"));
    }
  }
  if (photo.file.empty() || photo.file.find('/') != std::string::npos || photo.file == "." ||
      photo.file == "..") {
    return absl::InvalidArgumentError(
        absl::StrCat("file is ", Quoted(photo.file),
                     "; it must be the name of a photo beside selftest.json, without any \"/\""));
  }
  if (photo.top1.empty()) {
    return absl::InvalidArgumentError("top1 must be the expected class: a label or an index");
  }
  return photo;
}

absl::StatusOr<std::vector<SelfTestPhoto>> Parse(absl::string_view text, absl::string_view name,
                                                 PhotoReader read) {
  DLA_ASSIGN_OR_RETURN(const json root, ParseJson(text, name));
  if (!root.is_object() || root.size() != 1 || !root.contains("photos") ||
      !root.at("photos").is_array() || root.at("photos").empty() ||
      root.at("photos").size() > kMaxPhotos) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": must be {\"photos\": [...]} with 1 to ",
                                                   kMaxPhotos, " photos and nothing else"));
  }
  std::vector<SelfTestPhoto> photos;
  uintmax_t bytes_left = kMaxPhotoBytes;
  for (const json& object : root.at("photos")) {
    absl::StatusOr<SelfTestPhoto> photo = ParsePhoto(object);
    if (!photo.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ": photo ", photos.size(), ": ", photo.status().message()));
    }
    DLA_ASSIGN_OR_RETURN(photo->bytes, read(photo->file, bytes_left));
    bytes_left -= photo->bytes.size();
    photos.push_back(*std::move(photo));
  }
  return photos;
}

// A class as an error shows it.
std::string Shown(const ModelInfo& info, int index) {
  if (info.labels.empty() || info.labels[index].name.empty()) return absl::StrCat("class ", index);
  return absl::StrCat(Quoted(info.labels[index].name), " (class ", index, ")");
}

bool IsClass(const ModelInfo& info, int index, absl::string_view expected) {
  if (expected == absl::StrCat(index)) return true;
  if (info.labels.empty()) return false;
  return expected == info.labels[index].name || expected == info.labels[index].id;
}

absl::Status CheckEmbedding(const SelfTestPhoto& photo, double tolerance,
                            absl::Span<const float> found) {
  if (photo.embedding.size() != found.size()) {
    return absl::FailedPreconditionError(absl::StrCat("expected an embedding of ",
                                                      photo.embedding.size(),
                                                      " values, found one of ", found.size()));
  }
  double difference = 0;
  double length = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double expected = photo.embedding[i];
    difference += (found[i] - expected) * (found[i] - expected);
    length += expected * expected;
  }
  // Also false where what was found is not a number.
  if (std::sqrt(difference) <= tolerance * std::sqrt(length)) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrFormat("expected the embedding within a relative distance of %g, found it at %.3g",
                      tolerance, std::sqrt(difference / length)));
}

absl::Status RunOne(const Model& model, const SelfTestPhoto& photo) {
  const ModelInfo& info = model.info();
  DLA_ASSIGN_OR_RETURN(const Image image,
                       LoadImage(photo.bytes, info.input,
                                 {.apply_exif_orientation = false, .reduced_scale_decode = false}));
  BatchOutput output;
  DLA_RETURN_IF_ERROR(model.Run({image.pixels.data()}, output));
  const std::vector<ClassProbability> top = TopK(output.logits, 1);
  if (top.empty() || !std::isfinite(output.logits[top[0].index])) {
    return absl::FailedPreconditionError(
        absl::StrCat("expected ", Quoted(photo.top1), ", found logits that are no numbers"));
  }
  if (!IsClass(info, top[0].index, photo.top1)) {
    return absl::FailedPreconditionError(
        absl::StrCat("expected ", Quoted(photo.top1), ", found ", Shown(info, top[0].index)));
  }
  if (photo.embedding.empty()) return absl::OkStatus();
  const double tolerance =
      info.precision == "int8" ? std::max(photo.tolerance, kInt8Tolerance) : photo.tolerance;
  return CheckEmbedding(photo, tolerance, output.embeddings);
}

}  // namespace

absl::StatusOr<std::vector<SelfTestPhoto>> ReadSelfTest(const std::string& folder) {
  const std::string own = folder + "/selftest";
  std::error_code error;
  if (!std::filesystem::exists(own, error) && !error) return std::vector<SelfTestPhoto>();
  const std::string path = own + "/selftest.json";
  DLA_ASSIGN_OR_RETURN(const std::string text, Read(path, kMaxJsonBytes));
  return Parse(text, path, [&own](const std::string& file, uintmax_t most) {
    return Read(own + "/" + file, most);
  });
}

absl::StatusOr<std::vector<SelfTestPhoto>> EmbeddedSelfTest() {
  const auto text = [](const unsigned char* begin, const unsigned char* end) {
    return absl::string_view(reinterpret_cast<const char*>(begin), end - begin);
  };
  return Parse(text(dla_flowers5_selftest, dla_flowers5_selftest_end),
               "embedded model: selftest.json", [&](const std::string&, uintmax_t) {
                 return absl::StatusOr<std::string>(
                     text(dla_flowers5_selftest_photo, dla_flowers5_selftest_photo_end));
               });
}

absl::Status RunSelfTest(const Model& model, absl::Span<const SelfTestPhoto> photos) {
  if (photos.empty()) return absl::OkStatus();
  model.PrepareThread(1);
  for (const SelfTestPhoto& photo : photos) {
    if (const absl::Status status = RunOne(model, photo); !status.ok()) {
      return absl::Status(status.code(), absl::StrCat("self-test photo ", Quoted(photo.file), ": ",
                                                      status.message()));
    }
  }
  return absl::OkStatus();
}

}  // namespace dla
