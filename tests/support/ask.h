// Asks the pipeline for the answer to one photo.
#pragma once

#include <future>
#include <memory>
#include <utility>

#include "server/pipeline.h"

namespace dla::server {

// context.done is the future's. What the photo points to must outlive the future.
inline std::future<absl::StatusOr<Answer>> Ask(Pipeline& pipeline,
                                               std::shared_ptr<ServedModel> model,
                                               PhotoSource photo, PhotoContext context) {
  auto promise = std::make_shared<std::promise<absl::StatusOr<Answer>>>();
  context.done = [promise](absl::StatusOr<Answer> answer) {
    promise->set_value(std::move(answer));
  };
  pipeline.Submit(std::move(model), photo, std::move(context));
  return promise->get_future();
}

}  // namespace dla::server
