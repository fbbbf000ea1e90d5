#include "tests/chaos/faulty_model.h"

#include <stdexcept>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace dla::testing {
namespace {

// By Fault.
constexpr absl::string_view kNames[FaultSchedule::kFaults] = {"none",  "error", "throw",
                                                              "short", "oom",   "hang"};

absl::Status BadFaults(absl::string_view part) {
  return absl::InvalidArgumentError(
      absl::StrCat("--faults has \"", part, "\"; it takes seed=N, hang-ms=N and error, throw, ",
                   "short, oom, hang with probabilities that add up to at most 1"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<FaultSchedule>> FaultSchedule::Parse(absl::string_view text) {
  std::unique_ptr<FaultSchedule> schedule(new FaultSchedule());
  uint64_t seed = 1;
  double sum = 0;
  for (absl::string_view part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    const std::pair<absl::string_view, absl::string_view> pair = absl::StrSplit(part, '=');
    const auto& [name, value] = pair;
    uint32_t number = 0;
    if (name == "seed" && absl::SimpleAtoi(value, &seed)) continue;
    if (name == "hang-ms" && absl::SimpleAtoi(value, &number)) {
      schedule->hang_ = std::chrono::milliseconds(number);
      continue;
    }
    bool found = false;
    for (int i = 1; i < kFaults; ++i) {
      double& rate = schedule->rates_[i];
      if (name != kNames[i] || !absl::SimpleAtod(value, &rate) || !(rate >= 0)) continue;
      sum += rate;
      found = true;
    }
    if (!found || sum > 1) return BadFaults(part);
  }
  {
    server::MutexLock lock(schedule->mu_);
    schedule->random_.seed(seed);
  }
  return schedule;
}

Fault FaultSchedule::Next(int photos) {
  server::MutexLock lock(mu_);
  double left = std::uniform_real_distribution<double>()(random_);
  int fault = 0;
  for (int i = kFaults - 1; i > 0; --i) {
    if (fault == 0 && left < rates_[i]) fault = i;
    left -= rates_[i];
  }
  if (fault == static_cast<int>(Fault::kOutOfMemory) && photos == 1) fault = 0;
  ++counts_[fault].passes;
  counts_[fault].photos += photos;
  return static_cast<Fault>(fault);
}

std::string FaultSchedule::Summary() const {
  server::MutexLock lock(mu_);
  std::string text;
  for (int i = 0; i < kFaults; ++i) {
    absl::StrAppend(&text, i == 0 ? "" : " ", kNames[i], "=", counts_[i].passes, "/",
                    counts_[i].photos);
  }
  return text;
}

absl::Status FaultyModel::Run(absl::Span<const PhotoInput> photos, BatchOutput& output) const {
  const Fault fault = schedule_.Next(static_cast<int>(photos.size()));
  switch (fault) {
    case Fault::kError:
      return absl::InternalError("a fault of the test: the device is lost");
    case Fault::kThrow:
      throw std::runtime_error("a fault of the test: an exception");
    case Fault::kOutOfMemory:
      return absl::ResourceExhaustedError("a fault of the test: out of memory");
    case Fault::kHang:
      std::this_thread::sleep_for(schedule_.hang());
      break;
    case Fault::kNone:
    case Fault::kShort:
      break;
  }
  absl::Status status = model_->Run(photos, output);
  if (fault == Fault::kShort) {
    output.logits.resize(output.logits.size() / 2);
    output.embeddings.resize(output.embeddings.size() / 2);
  }
  return status;
}

}  // namespace dla::testing
