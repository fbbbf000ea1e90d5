// A dla.v1.Classifier without any model, for tests of clients.
#pragma once

#include <grpcpp/server.h>

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "dla/v1/classifier.grpc.pb.h"

namespace dla::testing {

// Answers on a free port of 127.0.0.1 until it is destroyed.
class FakeClassifier final : public dla::v1::Classifier::Service {
 public:
  using Handler = std::function<grpc::Status(const dla::v1::ClassifyRequest&, grpc::ServerContext&,
                                             dla::v1::ClassifyResponse&)>;

  // `handler` answers Classify, on several threads at once; left out, DefaultAnswer does.
  explicit FakeClassifier(Handler handler = DefaultAnswer);
  ~FakeClassifier() override;

  // HOST:PORT.
  const std::string& address() const { return address_; }

  // Calls of Classify so far, and how many of them were there at the same time at most.
  int calls() const;
  int most_at_once() const;

  // Blocks until so many calls of Classify are there at the same time.
  void WaitForCallsAtOnce(int count);

  // Ends all connections; later calls find nobody.
  void Stop();

  // The photo's bytes are its label: class 7 with probability 0.75, id "n07", and class 1, "other",
  // with 0.25. The embedding has 4 values, of which the first is the number of bytes. A photo that
  // begins with "bad" is an INVALID_ARGUMENT.
  static grpc::Status DefaultAnswer(const dla::v1::ClassifyRequest& request,
                                    grpc::ServerContext& context,
                                    dla::v1::ClassifyResponse& response);

  // A refusal with google.rpc.RetryInfo.
  static grpc::Status Busy(int retry_milliseconds);

  grpc::Status Classify(grpc::ServerContext* context, const dla::v1::ClassifyRequest* request,
                        dla::v1::ClassifyResponse* response) override;

  // Two models: "flowers", the first one, and "dla34".
  grpc::Status ListModels(grpc::ServerContext* context, const dla::v1::ListModelsRequest* request,
                          dla::v1::ListModelsResponse* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const dla::v1::GetModelRequest* request,
                        dla::v1::Model* response) override;

 private:
  const Handler handler_;
  mutable std::mutex mu_;
  std::condition_variable more_calls_;
  int calls_ = 0;  // guarded by mu_, like the next two
  int at_once_ = 0;
  int most_at_once_ = 0;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace dla::testing
