#include "server/forward_pass.h"

#include <exception>
#include <new>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "model/top_k.h"

namespace dla::server {
namespace {

PassResult Guarded(absl::FunctionRef<absl::Status()> work) {
  PassResult result;
  try {
    result.status = work();
    result.failure = absl::IsResourceExhausted(result.status) ? BatchFailure::kOutOfMemory
                                                              : BatchFailure::kError;
  } catch (const std::bad_alloc&) {
    result = {absl::ResourceExhaustedError("out of memory in the forward pass"),
              BatchFailure::kOutOfMemory};
  } catch (const std::exception& error) {
    result = {absl::InternalError(absl::StrCat("the model threw an exception: ", error.what())),
              BatchFailure::kException};
  } catch (...) {
    result = {absl::InternalError("the model threw something that is no std::exception"),
              BatchFailure::kException};
  }
  return result;
}

}  // namespace

PassResult ForwardPass::Prepare(int compute_threads) {
  return Guarded([&] {
    model_->PrepareThread(compute_threads);
    return absl::OkStatus();
  });
}

PassResult ForwardPass::Trial(int compute_threads) {
  return Guarded([&] {
    const InputSpec& input = model_->info().input;
    output_ = {};
    blank_.assign(size_t{3} * input.height * input.width, 0);
    model_->PrepareThread(compute_threads);
    inputs_.assign(1, PhotoInput(blank_.data()));
    return RunInputs();
  });
}

PassResult ForwardPass::SetPhotos(absl::Span<const BatchQueue::Item> photos) {
  return Guarded([&] {
    inputs_.clear();
    for (const BatchQueue::Item& photo : photos) {
      inputs_.push_back(photo.normalized.empty() ? PhotoInput(photo.pixels.pixels.data())
                                                 : PhotoInput::Normalized(photo.normalized.data()));
    }
    return absl::OkStatus();
  });
}

PassResult ForwardPass::Run() {
  return Guarded([&] { return RunInputs(); });
}

absl::Status ForwardPass::RunInputs() {
  absl::Status status = model_->Run(inputs_, output_);
  const ModelInfo& info = model_->info();
  if (status.ok() && (output_.logits.size() != inputs_.size() * info.num_classes ||
                      output_.embeddings.size() != inputs_.size() * info.embedding_size ||
                      output_.top.size() != inputs_.size() * output_.top_k)) {
    status = absl::InternalError(absl::StrCat("the model returned ", output_.logits.size(),
                                              " logits and ", output_.embeddings.size(),
                                              " features for ", inputs_.size(), " photos"));
  }
  return status;
}

absl::StatusOr<Answer> ForwardPass::AnswerOf(size_t row, const ClassifyOptions& options) const {
  Answer answer;
  const PassResult result = Guarded([&] {
    const size_t classes = model_->info().num_classes;
    const size_t features = model_->info().embedding_size;
    const auto logits = absl::MakeConstSpan(output_.logits).subspan(row * classes, classes);
    const size_t k = options.top_k;
    if (k > 0 && options.top_k <= output_.top_k) {
      const auto top = absl::MakeConstSpan(output_.top).subspan(row * output_.top_k, k);
      answer.classes.assign(top.begin(), top.end());
    } else if (k > 0) {
      answer.classes = TopK(logits, options.top_k);
    }
    if (options.include_logits) answer.logits.assign(logits.begin(), logits.end());
    if (options.include_probabilities) answer.probabilities = Softmax(logits);
    if (options.include_embedding) {
      const float* embedding = output_.embeddings.data() + row * features;
      answer.embedding.assign(embedding, embedding + features);
      if (options.normalize_embedding) NormalizeL2(absl::MakeSpan(answer.embedding));
    }
    return absl::OkStatus();
  });
  if (!result.status.ok()) return result.status;
  return answer;
}

}  // namespace dla::server
