// What no server built from this code can exceed: the CPU time of decoding and of the forward pass,
// each measured alone on all cores at once. Prints one JSON object.
#include <time.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "model/dla_model.h"
#include "model/memory.h"
#include "model/preprocess.h"
#include "model/threads.h"

namespace {

using Clock = std::chrono::steady_clock;

double ThreadCpuSeconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// A step handles so many images.
using Step = std::function<int()>;

// Runs `threads` threads for `seconds`, each calling the step that `prepare` makes for it, after
// one call that does not count. CPU seconds per image.
double CpuPerImage(int threads, double seconds, const std::function<Step()>& prepare) {
  std::atomic<int64_t> nanoseconds = 0, images = 0;
  std::vector<std::thread> running;
  for (int i = 0; i < threads; ++i) {
    running.emplace_back([&] {
      const Step step = prepare();
      step();
      const auto end = Clock::now() + std::chrono::duration<double>(seconds);
      const double begin = ThreadCpuSeconds();
      while (Clock::now() < end) images += step();
      nanoseconds += static_cast<int64_t>(1e9 * (ThreadCpuSeconds() - begin));
    });
  }
  for (std::thread& thread : running) thread.join();
  return 1e-9 * static_cast<double>(nanoseconds) / static_cast<double>(images);
}

// Median of the wall time of one step, in milliseconds, on an otherwise idle machine.
double MedianMs(double seconds, const Step& step) {
  step();
  std::vector<double> times;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  while (Clock::now() < end) {
    const auto begin = Clock::now();
    step();
    times.push_back(std::chrono::duration<double, std::milli>(Clock::now() - begin).count());
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

std::vector<std::string> ReadPhotos(const std::string& folder) {
  std::vector<std::string> photos;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".jpg") continue;
    std::ifstream file(entry.path(), std::ios::binary);
    photos.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (photos.empty()) throw std::runtime_error(folder + " holds no .jpg");
  return photos;
}

nlohmann::json Measure(const dla::Model& model, const std::vector<std::string>& photos, int threads,
                       double seconds) {
  const dla::InputSpec& input = model.info().input;
  std::atomic<size_t> next = 0;
  Step decode = [&] {
    (void)dla::LoadImage(photos[next++ % photos.size()], input, {}).value();
    return 1;
  };
  const dla::Image image = dla::LoadImage(photos[0], input, {}).value();
  const auto forward = [&](int batch, int compute_threads) -> Step {
    model.PrepareThread(compute_threads);
    return [&, batch, output = dla::BatchOutput()]() mutable {
      const std::vector<dla::PhotoInput> pixels(batch, image.pixels.data());
      const absl::Status status = model.Run(pixels, output);
      if (!status.ok()) throw std::runtime_error(status.ToString());
      return batch;
    };
  };

  const double decode_s = CpuPerImage(threads, seconds, [&] { return decode; });
  double forward_s = 0;
  int best_batch = 0;
  for (const int batch : {1, 2, 4, 8, 16}) {
    const double s = CpuPerImage(threads, seconds, [&] { return forward(batch, 1); });
    if (best_batch == 0 || s < forward_s) {
      forward_s = s;
      best_batch = batch;
    }
  }
  return {{"decode_cpu_s", decode_s},
          {"forward_cpu_s", forward_s},
          {"forward_batch", best_batch},
          {"images_per_second", threads / (decode_s + forward_s)},
          {"decode_ms", MedianMs(seconds, decode)},
          {"forward_ms_1_thread", MedianMs(seconds, forward(1, 1))},
          {"forward_ms_all_threads", MedianMs(seconds, forward(1, threads))}};
}

}  // namespace

int main(int argc, char** argv) {
  std::string folder, photos, precision = "auto";
  int threads = static_cast<int>(std::thread::hardware_concurrency());
  double seconds = 3;
  CLI::App app("Measures decoding and the forward pass alone and prints one JSON object.");
  app.add_option("--model", folder, "model folder")->required();
  app.add_option("--photos", photos, "folder of .jpg files")->required();
  app.add_option("--precision", precision)->check(CLI::IsMember({"auto", "fp32", "bf16"}));
  app.add_option("--threads", threads, "default: as many as cores")->check(CLI::Range(1, 1024));
  app.add_option("--seconds", seconds, "for each of the measurements")
      ->check(CLI::Range(0.1, 600.0));
  CLI11_PARSE(app, argc, argv);
  dla::KeepFreedMemory();
  dla::UseThreads(1);
  try {
    dla::LoadOptions options{.device = "cpu"};
    if (precision == "fp32") options.precision = dla::Precision::kFp32;
    if (precision == "bf16") options.precision = dla::Precision::kBf16;
    const auto model = dla::LoadModel(folder, options);
    if (!model.ok()) throw std::runtime_error(std::string(model.status().message()));
    std::cout << Measure(**model, ReadPhotos(photos), threads, seconds).dump() << "\n";
  } catch (const std::exception& e) {
    std::cerr << "dla_limit: " << e.what() << "\n";
    return 1;
  }
  return 0;
}
