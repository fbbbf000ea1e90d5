#include "quantize/photo_set.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "cli/photo_files.h"
#include "cli/text.h"
#include "model/parallel_for.h"
#include "model/preprocess.h"
#include "model/status_macros.h"

namespace dla::quantize {
namespace {

constexpr size_t kMaxFileBytes = 64 << 20;
constexpr size_t kMaxImageBytes = size_t{1} << 30;  // of all photos, as the network takes them

// Of a photo's folder among the names and ids of classes.
class Labels {
 public:
  explicit Labels(const ModelConfig& config) {
    for (size_t i = 0; i < config.labels.size(); ++i) {
      Add(config.labels[i].name, static_cast<int>(i));
      Add(config.labels[i].id, static_cast<int>(i));
    }
  }

  int Of(const std::string& path) const {
    const std::string folder = std::filesystem::path(path).parent_path().filename().string();
    const auto found = classes_.find(absl::AsciiStrToLower(folder));
    return found == classes_.end() ? -1 : found->second;
  }

 private:
  void Add(const std::string& name, int index) {
    if (!name.empty()) classes_.emplace(absl::AsciiStrToLower(name), index);
  }

  std::map<std::string, int> classes_;
};

// `count` elements at even distances.
template <typename T>
std::vector<T> Some(std::vector<T> all, size_t count) {
  if (all.size() <= count) return all;
  std::vector<T> some;
  for (size_t i = 0; i < count; ++i) some.push_back(std::move(all[i * all.size() / count]));
  return some;
}

absl::Status TooFew(const PhotoSet& set, size_t found, size_t good, int fewest) {
  std::string text = absl::StrCat(
      good == 0 ? "no photo" : absl::StrCat("only ", good, good == 1 ? " photo" : " photos"),
      " to calibrate on, and at least ", fewest, " are needed, better some hundreds");
  if (set.identical > 0) {
    absl::StrAppend(&text, "; of ", found, ", ", set.identical, " have the same pixels as another");
  }
  if (!set.broken.empty()) {
    absl::StrAppend(&text, "; of ", found, ", ", set.broken.size(),
                    " cannot be used, the first one ", set.broken.front());
  }
  if (fewest > 2) absl::StrAppend(&text, "; --force goes on with fewer");
  return absl::InvalidArgumentError(text);
}

// Photos of `paths` that can be used, at most `most`. What cannot is noted in `set`; `found` counts
// both. `seen` has the pixels of all photos so far, which stay where they are when a photo is
// moved.
absl::StatusOr<std::vector<Photo>> Load(const std::vector<std::string>& paths, size_t most,
                                        int threads, const ModelConfig& config,
                                        std::set<absl::string_view>& seen, PhotoSet& set,
                                        size_t& found) {
  std::vector<cli::PhotoFile> files = cli::FindPhotos(paths);
  for (const cli::PhotoFile& file : files) {
    // A folder that was named and has no photo, or cannot be read.
    if (!file.status.ok() && std::find(paths.begin(), paths.end(), file.path) != paths.end()) {
      return absl::Status(file.status.code(),
                          absl::StrCat(cli::Printable(file.path), ": ", file.status.message()));
    }
  }
  const size_t image_bytes = size_t{3} * config.input.height * config.input.width;
  files =
      Some(std::move(files), std::min(most, std::max<size_t>(64, kMaxImageBytes / image_bytes)));
  found += files.size();

  std::vector<absl::StatusOr<Image>> images(files.size(), absl::UnknownError(""));
  ParallelFor(static_cast<int64_t>(files.size()), threads, [&](int64_t i) {
    const absl::StatusOr<std::string> bytes = cli::ReadPhoto(files[i], kMaxFileBytes);
    images[i] = bytes.ok() ? LoadImage(*bytes, config.input, {}) : bytes.status();
  });

  const Labels labels(config);
  std::vector<Photo> photos;
  for (size_t i = 0; i < files.size(); ++i) {
    if (!images[i].ok()) {
      set.broken.push_back(absl::StrCat(cli::Printable(files[i].path), ": ",
                                        cli::Printable(images[i].status().message())));
      continue;
    }
    Photo photo{files[i].path, *std::move(images[i]), labels.Of(files[i].path)};
    const absl::string_view pixels(reinterpret_cast<const char*>(photo.image.pixels.data()),
                                   photo.image.pixels.size());
    if (seen.insert(pixels).second) {
      photos.push_back(std::move(photo));
    } else {
      ++set.identical;
    }
  }
  return photos;
}

}  // namespace

absl::StatusOr<PhotoSet> LoadPhotoSet(const PhotoSetOptions& options, const ModelConfig& config) {
  PhotoSet set;
  std::set<absl::string_view> seen;
  size_t found = 0;
  const bool splits = options.held_out.empty();
  DLA_ASSIGN_OR_RETURN(std::vector<Photo> photos,
                       Load(options.paths, splits ? options.photos : options.calibrate,
                            options.threads, config, seen, set, found));
  if (!splits) {
    DLA_ASSIGN_OR_RETURN(set.held_out, Load(options.held_out, options.photos, options.threads,
                                            config, seen, set, found));
  }
  const int fewest = std::max(options.fewest, 2);
  const size_t good = photos.size() + set.held_out.size();
  if (good < static_cast<size_t>(fewest) || photos.empty() || (!splits && set.held_out.empty())) {
    return TooFew(set, found, good, fewest);
  }
  if (!splits) {
    set.calibration = std::move(photos);
    return set;
  }
  const auto count = static_cast<int>(photos.size());
  // Half of them; of few photos more, for ranges need some, while the proof says how few it saw.
  const int calibrate =
      std::min({std::max(count / 2, std::min(32, count * 3 / 4)), options.calibrate, count - 1});
  for (int i = 0; i < count; ++i) {
    const bool calibrates = int64_t{i + 1} * calibrate / count > int64_t{i} * calibrate / count;
    (calibrates ? set.calibration : set.held_out).push_back(std::move(photos[i]));
  }
  return set;
}

std::vector<PhotoInput> InputsOf(const std::vector<Photo>& photos) {
  std::vector<PhotoInput> inputs;
  for (const Photo& photo : photos) inputs.emplace_back(photo.image.pixels.data());
  return inputs;
}

}  // namespace dla::quantize
