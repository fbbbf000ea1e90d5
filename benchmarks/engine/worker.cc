// Runs one model folder for compare.py, which asks by lines on standard input, so that the model
// stays loaded, and its threads asleep, while other engines are measured:
//   dla_engine_worker MODEL_FOLDER fp32|bf16|fp16 [DEVICE [MAX_BATCH REPLICAS]]
//   check PHOTOS N            {"logits": [[...], ...]} of the N photos in a file of raw RGB bytes
//   measure B R C SECONDS     {"images_per_second": ..., "cpu_ms_per_image": ..., "batches": ...}
// measure has R replicas at once classify batches of B photos with C compute threads each.
#include <sys/resource.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "model/dla_model.h"
#include "model/memory.h"
#include "model/threads.h"

namespace {

using Seconds = std::chrono::duration<double>;
using std::chrono::steady_clock;

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

size_t PhotoBytes(const dla::Model& model) {
  const dla::InputSpec& input = model.info().input;
  return static_cast<size_t>(input.height) * input.width * 3;
}

// `count` photos one behind the other; where the file holds fewer, they repeat.
std::vector<dla::PhotoInput> Split(const std::string& pixels, size_t photo_bytes, size_t count) {
  std::vector<dla::PhotoInput> photos(count);
  const size_t stored = pixels.size() / photo_bytes;
  for (size_t i = 0; i < count; ++i) {
    photos[i] = reinterpret_cast<const uint8_t*>(pixels.data()) + i % stored * photo_bytes;
  }
  return photos;
}

nlohmann::json Check(const dla::Model& model, const std::string& file, size_t count) {
  std::ifstream stream(file, std::ios::binary);
  const std::string pixels{std::istreambuf_iterator<char>(stream), {}};
  if (pixels.size() < PhotoBytes(model)) return {{"error", "cannot read a photo from " + file}};
  dla::BatchOutput output;
  const absl::Status status = model.Run(Split(pixels, PhotoBytes(model), count), output);
  if (!status.ok()) return {{"error", status.ToString()}};
  nlohmann::json logits = nlohmann::json::array();
  const size_t classes = model.info().num_classes;
  for (size_t i = 0; i < count; ++i) {
    const auto row = output.logits.begin() + static_cast<std::ptrdiff_t>(i * classes);
    logits.push_back(std::vector<float>(row, row + static_cast<std::ptrdiff_t>(classes)));
  }
  return {{"logits", logits}};
}

nlohmann::json Measure(const dla::Model& model, size_t batch, int replicas, int compute_threads,
                       double seconds) {
  const std::string pixels(batch * PhotoBytes(model), '\x55');
  const std::vector<dla::PhotoInput> photos = Split(pixels, PhotoBytes(model), batch);
  std::atomic<bool> failed = false;
  std::atomic<int64_t> batches = 0;
  std::vector<double> rates(replicas);  // images/s of each replica
  double cpu_before = 0;
  std::barrier start(replicas, [&]() noexcept { cpu_before = CpuSeconds(); });
  std::vector<std::thread> threads;
  for (int replica = 0; replica < replicas; ++replica) {
    threads.emplace_back([&, replica] {
      model.PrepareThread(compute_threads);
      dla::BatchOutput output;
      // oneDNN compiles its kernels the first time.
      for (int i = 0; i < 2; ++i) failed = failed || !model.Run(photos, output).ok();
      start.arrive_and_wait();
      const auto begin = steady_clock::now();
      int64_t done = 0;
      Seconds took{};
      while (!failed && (done < 2 || took.count() < seconds)) {
        if (!model.Run(photos, output).ok()) failed = true;
        ++done;
        took = steady_clock::now() - begin;
      }
      rates[replica] = static_cast<double>(done * batch) / took.count();
      batches += done;
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (failed) return {{"error", "the forward pass failed"}};
  double rate = 0;
  for (double each : rates) rate += each;
  const double cpu = CpuSeconds() - cpu_before;
  return {{"images_per_second", rate},
          {"cpu_ms_per_image", cpu * 1e3 / static_cast<double>(batches * batch)},
          {"batches", batches.load()}};
}

dla::Precision PrecisionOf(const std::string& name) {
  if (name == "fp16") return dla::Precision::kFp16;
  if (name == "int8") return dla::Precision::kInt8;  // a folder of dla-quantize
  return name == "bf16" ? dla::Precision::kBf16 : dla::Precision::kFp32;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3 || argc > 6 || argc == 5) {
    std::cerr << "usage: dla_engine_worker MODEL_FOLDER fp32|bf16|fp16|int8 "
                 "[DEVICE [MAX_BATCH REPLICAS]]\n";
    return 2;
  }
  dla::KeepFreedMemory();
  // The last two are a GPU's; what is no number leaves them to the model.
  const auto model = dla::LoadModel(argv[1], {.device = argc > 3 ? argv[3] : "cpu",
                                              .precision = PrecisionOf(argv[2]),
                                              .replicas = argc > 5 ? std::atoi(argv[5]) : 0,
                                              .max_batch = argc > 5 ? std::atoi(argv[4]) : 0});
  if (!model.ok()) {
    std::cerr << "dla_engine_worker: " << model.status().message() << "\n";
    return 1;
  }
  const dla::ModelInfo& info = (*model)->info();
  std::cout << nlohmann::json{{"ready", info.precision},
                              {"device", info.device},
                              {"engine", info.engine},
                              {"max_batch", info.max_batch}}
            << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string command, file;
    size_t batch = 0;
    int replicas = 0, compute_threads = 0;
    double seconds = 0;
    words >> command;
    nlohmann::json answer = {{"error", "unknown command: " + line}};
    if (command == "check" && words >> file >> batch && batch > 0) {
      answer = Check(**model, file, batch);
    } else if (command == "measure" && words >> batch >> replicas >> compute_threads >> seconds &&
               batch > 0 && replicas > 0 && compute_threads > 0) {
      answer = Measure(**model, batch, replicas, compute_threads, seconds);
    }
    std::cout << answer << std::endl;
  }
}
