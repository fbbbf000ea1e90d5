#include "client/photo_sender.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <future>
#include <mutex>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client/server_connection.h"
#include "tests/support/fake_classifier.h"
#include "tests/support/temp_dir.h"

namespace dla::client {
namespace {

using ::dla::testing::FakeClassifier;
using ::dla::testing::TempDir;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Delays so short that no test waits for them.
RetryPolicy Impatient() {
  return {.first_delay = absl::Milliseconds(1), .max_delay = absl::Milliseconds(2), .jitter = 0};
}

class Event {
 public:
  void Set() { promise_.set_value(); }
  void Wait() const { future_.wait(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

class PhotoSenderTest : public ::testing::Test {
 protected:
  // Photos whose bytes, and so whose labels, are "0", "1", ...
  std::vector<cli::PhotoFile> Photos(int count) {
    std::vector<cli::PhotoFile> photos;
    for (int i = 0; i < count; ++i) {
      photos.push_back({dir_.Write(absl::StrCat(i, ".jpg"), absl::StrCat(i)), absl::OkStatus()});
    }
    return photos;
  }

  PhotoSender Sender(const FakeClassifier& server, int concurrency,
                     absl::Duration timeout = absl::Seconds(60)) {
    SenderOptions options;
    options.concurrency = concurrency;
    options.timeout = timeout;
    options.max_file_size = 1000;
    options.retry = Impatient();
    return PhotoSender(ServerConnection(server.address()).channel(), options);
  }

  // Collects a label or an error for each photo.
  absl::Status Run(PhotoSender& sender, const std::vector<cli::PhotoFile>& photos) {
    return sender.Run(photos, [this](PhotoResult& result) {
      results_.push_back(result.answer.ok() ? result.answer->classes(0).label()
                                            : result.answer.status().ToString());
      return absl::OkStatus();
    });
  }

  TempDir dir_;
  std::vector<std::string> results_;
};

TEST_F(PhotoSenderTest, KeepsTheOrderWhateverComesFirst) {
  Event second_answered;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (request.image() == "0") second_answered.Wait();
    grpc::Status status = FakeClassifier::DefaultAnswer(request, context, response);
    if (request.image() == "2") second_answered.Set();
    return status;
  });
  PhotoSender sender = Sender(server, 3);
  EXPECT_TRUE(Run(sender, Photos(6)).ok());
  EXPECT_THAT(results_, ElementsAre("0", "1", "2", "3", "4", "5"));
}

TEST_F(PhotoSenderTest, KeepsExactlySoManyInFlight) {
  // Every group of four has to be there before one of them is answered.
  std::mutex mu;
  std::condition_variable group_is_there;
  int waiting = 0;
  int released = 0;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    std::unique_lock lock(mu);
    const int mine = ++waiting;
    if (mine % 4 == 0) released = mine;
    group_is_there.notify_all();
    group_is_there.wait(lock, [&] { return released >= mine; });
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  PhotoSender sender = Sender(server, 4);
  EXPECT_TRUE(Run(sender, Photos(40)).ok());
  EXPECT_EQ(results_.size(), 40u);
  EXPECT_EQ(server.most_at_once(), 4);
}

TEST_F(PhotoSenderTest, HoldsBackAtMostFourTimesTheConcurrency) {
  Event others_done;
  std::atomic<int> answered = 0;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (request.image() == "0") {
      others_done.Wait();
    } else if (++answered == 7) {  // a window of 8 less the one that blocks
      others_done.Set();
    }
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  int answered_at_first_result = 0;
  PhotoSender sender = Sender(server, 2);
  EXPECT_TRUE(sender
                  .Run(Photos(50),
                       [&](PhotoResult&) {
                         if (answered_at_first_result == 0) answered_at_first_result = answered;
                         return absl::OkStatus();
                       })
                  .ok());
  EXPECT_EQ(answered_at_first_result, 7);
}

TEST_F(PhotoSenderTest, GoesOnAfterPhotosThatFail) {
  FakeClassifier server;
  std::vector<cli::PhotoFile> photos = Photos(3);
  photos.insert(photos.begin(), {dir_.Path("missing.jpg"), absl::OkStatus()});
  photos.insert(photos.begin() + 2, {dir_.Write("bad.jpg", "bad"), absl::OkStatus()});
  photos.insert(photos.begin() + 4,
                {dir_.Write("big.jpg", std::string(1001, 'x')), absl::OkStatus()});
  photos.push_back({dir_.Path(), absl::NotFoundError("no photo in this folder")});
  PhotoSender sender = Sender(server, 2);
  EXPECT_TRUE(Run(sender, photos).ok());
  EXPECT_THAT(results_,
              ElementsAre(HasSubstr("No such file"), "0", HasSubstr("not an image"), "1",
                          HasSubstr("more than the 1000"), "2", HasSubstr("no photo in")));
  EXPECT_EQ(server.calls(), 4);
}

TEST_F(PhotoSenderTest, ComesBackUntilABusyServerHasRoom) {
  std::atomic<int> calls = 0;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (++calls % 4 != 0) return FakeClassifier::Busy(1);
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  PhotoSender sender = Sender(server, 4);
  EXPECT_TRUE(Run(sender, Photos(10)).ok());
  EXPECT_THAT(results_, ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"));
  EXPECT_GE(server.calls(), 40);
}

TEST_F(PhotoSenderTest, WaitsAsLongAsTheServerAsks) {
  std::atomic<int> calls = 0;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (++calls == 1) return FakeClassifier::Busy(50);
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  PhotoSender sender = Sender(server, 1);
  const absl::Time start = absl::Now();
  EXPECT_TRUE(Run(sender, Photos(1)).ok());
  EXPECT_GE(absl::Now() - start, absl::Milliseconds(50));
  EXPECT_EQ(server.calls(), 2);
}

TEST_F(PhotoSenderTest, GivesUpOnAPhotoWhoseNextTryWouldComeTooLate) {
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (request.image() == "0") return FakeClassifier::Busy(30'000);
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  PhotoSender sender = Sender(server, 1, absl::Seconds(20));
  EXPECT_TRUE(Run(sender, Photos(2)).ok());
  EXPECT_THAT(results_, ElementsAre(AllOf(HasSubstr("RESOURCE_EXHAUSTED: refused"),
                                          HasSubstr("the queue is full")),
                                    "1"));
}

TEST_F(PhotoSenderTest, TellsTheLastErrorOfAPhotoThatWasRefusedBefore) {
  std::atomic<int> calls = 0;
  FakeClassifier server([&](const auto&, auto&, auto&) {
    if (++calls == 1) return FakeClassifier::Busy(1);
    return grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "not an image");
  });
  PhotoSender sender = Sender(server, 1);
  EXPECT_TRUE(Run(sender, Photos(1)).ok());
  EXPECT_THAT(results_, ElementsAre("INVALID_ARGUMENT: not an image"));
}

TEST_F(PhotoSenderTest, DoesNotRepeatARequestThatIsTooLarge) {
  FakeClassifier server([](const auto&, auto&, auto&) {
    return grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "message larger than max");
  });
  PhotoSender sender = Sender(server, 1);
  EXPECT_TRUE(Run(sender, Photos(1)).ok());
  EXPECT_THAT(results_, ElementsAre("RESOURCE_EXHAUSTED: message larger than max"));
  EXPECT_EQ(server.calls(), 1);
}

TEST_F(PhotoSenderTest, GivesUpOnAPhotoThatIsNotAnsweredInTime) {
  Event end;
  FakeClassifier server([&](const auto& request, auto& context, auto& response) {
    if (request.image() == "0") end.Wait();
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  PhotoSender sender = Sender(server, 2, absl::Seconds(3));
  EXPECT_TRUE(Run(sender, Photos(3)).ok());
  end.Set();
  EXPECT_THAT(results_, ElementsAre("DEADLINE_EXCEEDED: no answer within 3s", "1", "2"));
}

TEST_F(PhotoSenderTest, EndsWhenTheServerGoesAwayForGood) {
  FakeClassifier server;
  PhotoSender sender = Sender(server, 2, absl::Seconds(1));
  const absl::Status status = sender.Run(Photos(1000), [&](PhotoResult& result) {
    results_.push_back(result.file);
    if (results_.size() == 3) server.Stop();
    return absl::OkStatus();
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("answered nothing for"), HasSubstr("(Connection refused)")));
  EXPECT_LT(results_.size(), 20u);
}

TEST_F(PhotoSenderTest, EndsWhenTheServerFallsSilent) {
  Event end;
  FakeClassifier server([&](const auto&, auto&, auto&) {
    end.Wait();
    return grpc::Status::OK;
  });
  PhotoSender sender = Sender(server, 2, absl::Milliseconds(100));
  const absl::Status status = Run(sender, Photos(1000));
  end.Set();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_LT(results_.size(), 20u);
}

TEST_F(PhotoSenderTest, CancelEndsCallsInFlight) {
  Event end;
  FakeClassifier server([&](const auto&, auto&, auto&) {
    end.Wait();
    return grpc::Status::OK;
  });
  PhotoSender sender = Sender(server, 4);
  std::thread canceller([&] {
    server.WaitForCallsAtOnce(4);
    sender.Cancel();
  });
  EXPECT_EQ(Run(sender, Photos(100)).code(), absl::StatusCode::kCancelled);
  canceller.join();
  end.Set();
  EXPECT_THAT(results_, ElementsAre());
}

TEST_F(PhotoSenderTest, CancelEndsTheWaitForABusyServer) {
  FakeClassifier server([](const auto&, auto&, auto&) { return FakeClassifier::Busy(900); });
  SenderOptions options;
  options.timeout = absl::Hours(1);
  options.retry.max_delay = absl::Hours(1);
  PhotoSender sender(ServerConnection(server.address()).channel(), options);
  std::thread canceller([&] {
    while (server.calls() < 3) std::this_thread::yield();
    sender.Cancel();
  });
  EXPECT_EQ(Run(sender, Photos(3)).code(), absl::StatusCode::kCancelled);
  canceller.join();
}

TEST_F(PhotoSenderTest, StopsWhenTheSinkFails) {
  FakeClassifier server;
  PhotoSender sender = Sender(server, 4);
  int seen = 0;
  EXPECT_EQ(sender.Run(Photos(100),
                       [&](PhotoResult&) {
                         return ++seen == 3 ? absl::DataLossError("disk full") : absl::OkStatus();
                       }),
            absl::DataLossError("disk full"));
  EXPECT_EQ(seen, 3);
  EXPECT_LT(server.calls(), 30);
}

TEST_F(PhotoSenderTest, AsksWhatItWasTold) {
  FakeClassifier server([](const auto& request, auto& context, auto& response) {
    EXPECT_EQ(request.model(), "dla34");
    EXPECT_EQ(request.top_k(), 1u);
    return FakeClassifier::DefaultAnswer(request, context, response);
  });
  SenderOptions options;
  options.request.set_model("dla34");
  options.request.set_top_k(1);
  options.request.set_include_embedding(true);
  PhotoSender sender(ServerConnection(server.address()).channel(), options);
  EXPECT_TRUE(sender
                  .Run(Photos(1),
                       [](PhotoResult& result) {
                         EXPECT_EQ(result.answer->classes_size(), 1);
                         EXPECT_EQ(result.answer->embedding_size(), 4);
                         return absl::OkStatus();
                       })
                  .ok());
}

TEST(ServerConnectionTest, SaysAtOnceThatNoServerIsThere) {
  std::string address;
  {
    FakeClassifier server;
    address = server.address();
  }
  const absl::Status status = ServerConnection(address).GetModel("").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), absl::StrCat("no server is available at ", address,
                                           " (Connection refused): start one with `dla-server`, or "
                                           "name another with --server HOST:PORT"));
}

TEST(ServerConnectionTest, PassesOnWhatTheServerSaysOfAnUnknownModel) {
  FakeClassifier server;
  const absl::Status status = ServerConnection(server.address()).GetModel("resnet50").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              HasSubstr("no model \"resnet50\"; served are flowers, dla34"));
}

TEST(ServerConnectionTest, FillsInThePort) {
  EXPECT_EQ(WithDefaultPort("host"), "host:8001");
  EXPECT_EQ(WithDefaultPort("host:1"), "host:1");
  EXPECT_EQ(WithDefaultPort("::1"), "[::1]:8001");
  EXPECT_EQ(WithDefaultPort("[::1]"), "[::1]:8001");
  EXPECT_EQ(WithDefaultPort("[::1]:1"), "[::1]:1");
  EXPECT_EQ(WithDefaultPort("unix:/run/dla.sock"), "unix:/run/dla.sock");
  EXPECT_EQ(WithDefaultPort("dns:///host:1"), "dns:///host:1");
}

TEST(ServerConnectionTest, KnowsThisMachine) {
  for (const char* address : {"localhost:8001", "127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "unix:/x"})
    EXPECT_TRUE(IsLoopback(address)) << address;
  for (const char* address : {"localhost.example.org:1", "10.0.0.1:1", "example.org:1"})
    EXPECT_FALSE(IsLoopback(address)) << address;
}

}  // namespace
}  // namespace dla::client
