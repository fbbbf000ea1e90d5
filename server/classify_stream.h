// One ClassifyStream call.
#pragma once

#include "dla/v1/classifier.pb.h"
#include "server/classifier_service.h"
#include "server/message_stream.h"

namespace dla::server {

class ClassifyStreamReactor final
    : public MessageStream<v1::ClassifyStreamRequest, v1::ClassifyStreamResponse> {
 public:
  // `context` outlives the stream. Photos are answered until `deadline`.
  ClassifyStreamReactor(const ServiceContext& context, ClientId client, TimePoint deadline)
      : MessageStream(context.calls), context_(context), client_(client), deadline_(deadline) {}

 private:
  void Accept(v1::ClassifyStreamRequest message) override;

  const ServiceContext& context_;
  const ClientId client_;
  const TimePoint deadline_;
};

}  // namespace dla::server
