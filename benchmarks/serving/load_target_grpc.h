// What all targets that speak gRPC share.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "benchmarks/serving/load_target.h"
#include "google/protobuf/message_lite.h"
#include "grpcpp/support/byte_buffer.h"

namespace dla::bench {

grpc::ByteBuffer ToBuffer(const google::protobuf::MessageLite& message);
absl::Status FromBuffer(grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message);

struct GrpcTargetOptions {
  std::string address;  // host:port
  std::string method;   // "/package.Service/Method"
  std::function<absl::StatusOr<Answer>(grpc::ByteBuffer&)> parse;
  std::string client;   // metadata "client-id" of every request, unless it is empty
  int connections = 1;  // each with a thread of its own; requests take them in turn
};

// Photo number i is requests[i % requests.size()].
std::unique_ptr<LoadTarget> MakeGrpcTarget(const GrpcTargetOptions& options,
                                           const std::vector<grpc::ByteBuffer>& requests);

}  // namespace dla::bench
