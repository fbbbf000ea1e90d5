// One ModelStreamInfer call.
#pragma once

#include "inference/grpc_service.pb.h"
#include "server/inference_service.h"
#include "server/message_stream.h"

namespace dla::server {

// Answers come as they are ready; the id tells them apart. An error is told in its answer.
class InferStream final
    : public MessageStream<inference::ModelInferRequest, inference::ModelStreamInferResponse> {
 public:
  // `context` outlives the stream. Requests are answered until `deadline`.
  InferStream(const InferenceContext& context, ClientId client, TimePoint deadline)
      : MessageStream(context.service.calls),
        context_(context),
        client_(client),
        deadline_(deadline) {}

 private:
  void Accept(inference::ModelInferRequest message) override;

  const InferenceContext& context_;
  const ClientId client_;
  const TimePoint deadline_;
};

}  // namespace dla::server
