#include "client/bench_command.h"

#include <grpcpp/support/byte_buffer.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "cli/interrupt.h"
#include "cli/photo_files.h"
#include "cli/terminal.h"
#include "cli/text.h"
#include "client/bench_report.h"
#include "client/bench_run.h"

namespace dla::client {
namespace {

constexpr size_t kMostPhotos = 1000;
constexpr size_t kMostBytes = size_t{256} << 20;

// Requests for the photos that can be read; the others are told.
std::vector<grpc::ByteBuffer> ReadRequests(const BenchOptions& options) {
  std::vector<grpc::ByteBuffer> requests;
  FailureReport failures;
  size_t bytes = 0;
  const std::vector<cli::PhotoFile> photos = cli::FindPhotos(options.paths);
  for (const cli::PhotoFile& photo : photos) {
    auto image = cli::ReadPhoto(photo, options.max_file_size);
    if (!image.ok()) {
      failures.Add(photo.path, image.status());
      continue;
    }
    bytes += image->size();
    if (requests.size() == kMostPhotos || (bytes > kMostBytes && !requests.empty())) {
      cli::WriteError(absl::StrCat("only the first ", requests.size(), " photos are used: at most ",
                                   kMostPhotos, " photos and ", kMostBytes >> 20,
                                   " MiB are held in memory\n"));
      break;
    }
    dla::v1::ClassifyRequest request = options.request;
    request.set_image(*std::move(image));
    requests.push_back(Serialize(request));
  }
  cli::WriteError(failures.Text(photos.size()));
  return requests;
}

// One line on standard error, if that is a terminal.
class LiveLine {
 public:
  void Show(const BenchFigures& figures) {
    if (!terminal_.can_redraw) return;
    const std::string text = BenchProgress(figures);
    cli::WriteError(absl::StrCat("\r", cli::FitColumns(text, terminal_.columns - 1, ""), "\x1b[K"));
    visible_ = true;
  }

  void Hide() {
    if (visible_) cli::WriteError("\r\x1b[K");
    visible_ = false;
  }

 private:
  const cli::Terminal terminal_ = cli::DescribeTerminal(STDERR_FILENO);
  bool visible_ = false;
};

}  // namespace

ExitCode RunBench(const BenchOptions& options) {
  std::vector<ServerConnection> servers;
  std::vector<std::shared_ptr<grpc::Channel>> channels;
  for (int i = 0; i < options.connections; ++i) {
    auto server = ServerConnection::Make(options.server);
    if (!server.ok()) {
      PrintError(server.status().message());
      return kUsageError;
    }
    channels.push_back(server->channel());
    servers.push_back(*std::move(server));
  }
  const auto model = servers.front().GetModel(options.request.model());
  if (!model.ok()) {
    PrintError(model.status().message());
    return kFailed;
  }
  std::vector<grpc::ByteBuffer> requests = ReadRequests(options);
  if (requests.empty()) {
    PrintError("no photo to send: name a file or a folder that holds .jpg, .png or .webp files");
    return kFailed;
  }
  const BenchSetting setting = {.address = servers.front().address(),
                                .model = model->name(),
                                .model_version = model->version(),
                                .photos = requests.size(),
                                .connections = options.connections,
                                .plan = options.load};
  BenchRun run(options.load, absl::ToChronoNanoseconds(options.timeout), channels,
               std::move(requests));
  BenchFigures figures;
  {
    const cli::Interrupt interrupt([&run] { run.Cancel(); });
    LiveLine line;
    figures = run.Run([&line](const BenchFigures& so_far) { line.Show(so_far); });
    line.Hide();
  }
  const std::string text = options.json
                               ? BenchJson(setting, figures)
                               : BenchTable(setting, figures, cli::DescribeTerminal(STDOUT_FILENO));
  if (const absl::Status written = cli::WriteAll(STDOUT_FILENO, text); !written.ok()) {
    if (!absl::IsAborted(written)) PrintError(written.message());
    return kFailed;
  }
  if (figures.interrupted) return kInterrupted;
  return figures.failed > 0 || figures.latency.count() == 0 ? kFailed : kAllWell;
}

}  // namespace dla::client
