#include <httplib.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/serving/load_target.h"

namespace dla::bench {
namespace {

// An open loop against a server that cannot keep up would otherwise open connections without end.
constexpr size_t kMaxConnections = 512;

absl::StatusOr<Answer> ParseAnswer(const std::string& body) {
  const auto json = nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
  try {
    Answer answer;
    for (const auto& c : json) {
      answer.push_back({c.at("index").get<int>(), c.at("label").get<std::string>(),
                        c.at("probability").get<double>()});
    }
    return answer;
  } catch (const nlohmann::json::exception&) {
    return absl::InternalError(absl::StrCat("not a list of classes: ", body.substr(0, 200)));
  }
}

// As many connections as requests were ever in flight, a thread for each.
class HttpTarget final : public LoadTarget {
 public:
  HttpTarget(std::string server, std::string path, std::vector<std::string> photos)
      : server_(std::move(server)), path_(std::move(path)), photos_(std::move(photos)) {}

  ~HttpTarget() override {
    {
      const std::lock_guard lock(mutex_);
      ended_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void Send(size_t photo, Done done) override {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({photo % photos_.size(), std::move(done)});
    if (waiting_.size() <= idle_) {
      wake_.notify_one();
    } else if (threads_.size() < kMaxConnections) {
      threads_.emplace_back([this] { Work(); });
    }
  }

 private:
  struct Request {
    size_t photo;
    Done done;
  };

  void Work() {
    httplib::Client client(server_);
    client.set_keep_alive(true);
    client.set_tcp_nodelay(true);
    client.set_read_timeout(kRequestTimeoutS);
    client.set_write_timeout(kRequestTimeoutS);
    std::unique_lock lock(mutex_);
    ++idle_;
    while (true) {
      wake_.wait(lock, [this] { return ended_ || !waiting_.empty(); });
      if (waiting_.empty()) return;
      --idle_;
      const Request request = std::move(waiting_.front());
      waiting_.pop_front();
      lock.unlock();
      absl::StatusOr<Answer> answer = Post(client, photos_[request.photo]);
      // Idle before `done`: what that sends goes over this connection instead of a new one.
      lock.lock();
      ++idle_;
      lock.unlock();
      request.done(std::move(answer));
      lock.lock();
    }
  }

  absl::StatusOr<Answer> Post(httplib::Client& client, const std::string& photo) const {
    // Written from where it lies; handed over as a body, it would be copied first.
    const auto write = [&photo](size_t offset, size_t length, httplib::DataSink& sink) {
      return sink.write(photo.data() + offset, length);
    };
    const httplib::Result result = client.Post(path_, photo.size(), write, "image/jpeg");
    if (!result) return absl::UnavailableError(httplib::to_string(result.error()));
    if (result->status != 200) {
      return absl::InternalError(absl::StrCat("HTTP ", result->status, ": ", result->body));
    }
    return ParseAnswer(result->body);
  }

  const std::string server_;
  const std::string path_;
  const std::vector<std::string> photos_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Request> waiting_;
  size_t idle_ = 0;
  bool ended_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LoadTarget>> MakeHttpTarget(const std::string& url,
                                                           std::vector<std::string> photos) {
  constexpr absl::string_view kScheme = "http://";
  const size_t slash = url.find('/', kScheme.size());
  if (!absl::StartsWith(url, kScheme) || slash == std::string::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", url, "\" is not of the form http://host:port/path"));
  }
  return std::make_unique<HttpTarget>(url.substr(0, slash), url.substr(slash), std::move(photos));
}

}  // namespace dla::bench
