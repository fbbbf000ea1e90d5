#include "server/model_description.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/infer_request.h"

namespace dla::server {
namespace {

constexpr char kPlatform[] = "dla_serve";

struct Tensor {
  std::string name;
  std::string datatype;
  std::vector<int64_t> shape;
};

std::vector<Tensor> Inputs(const ModelInfo& info) {
  return {{kImageInput, "BYTES", {-1}},
          {kPixelsInput, "UINT8", {-1, -1, -1, 3}},
          {kNormalizedInput, "FP32", {-1, 3, info.input.height, info.input.width}}};
}

std::vector<Tensor> Outputs(const ModelInfo& info) {
  std::vector<Tensor> outputs;
  for (const OutputDescription& output : kOutputs) {
    outputs.push_back({output.name, output.datatype, {-1, info.num_classes}});
  }
  outputs[static_cast<int>(InferOutput::kEmbedding)].shape[1] = info.embedding_size;
  outputs[static_cast<int>(InferOutput::kLabels)].shape[1] = -1;
  outputs[static_cast<int>(InferOutput::kIndices)].shape[1] = -1;
  return outputs;
}

inference::DataType TypeOf(const std::string& datatype) {
  if (datatype == "BYTES") return inference::TYPE_STRING;
  if (datatype == "UINT8") return inference::TYPE_UINT8;
  if (datatype == "INT32") return inference::TYPE_INT32;
  return inference::TYPE_FP32;
}

void SetParameter(inference::ModelConfig& message, const std::string& name,
                  const std::string& value) {
  (*message.mutable_parameters())[name].set_string_value(value);
}

}  // namespace

void FillMetadata(const ServedModel& model, inference::ModelMetadataResponse& message) {
  message.set_name(model.name());
  message.set_platform(kPlatform);
  for (const Tensor& tensor : Inputs(model.info())) {
    auto& input = *message.add_inputs();
    input.set_name(tensor.name);
    input.set_datatype(tensor.datatype);
    input.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  }
  for (const Tensor& tensor : Outputs(model.info())) {
    auto& output = *message.add_outputs();
    output.set_name(tensor.name);
    output.set_datatype(tensor.datatype);
    output.mutable_shape()->Add(tensor.shape.begin(), tensor.shape.end());
  }
}

void FillConfig(const ServedModel& model, inference::ModelConfig& message) {
  const ModelInfo& info = model.info();
  const ServedModel::Options& options = model.options();
  message.set_name(model.name());
  message.set_platform(kPlatform);
  message.set_backend(kPlatform);
  message.mutable_version_policy()->mutable_latest()->set_num_versions(1);
  for (const Tensor& tensor : Inputs(info)) {
    inference::ModelInput& input = *message.add_input();
    input.set_name(tensor.name);
    input.set_data_type(TypeOf(tensor.datatype));
    input.mutable_dims()->Add(tensor.shape.begin(), tensor.shape.end());
    input.set_optional(true);  // exactly one is given
  }
  for (const Tensor& tensor : Outputs(info)) {
    inference::ModelOutput& output = *message.add_output();
    output.set_name(tensor.name);
    output.set_data_type(TypeOf(tensor.datatype));
    output.mutable_dims()->Add(tensor.shape.begin(), tensor.shape.end());
  }
  inference::ModelDynamicBatching& batching = *message.mutable_dynamic_batching();
  batching.add_preferred_batch_size(options.queue.max_batch);
  batching.set_max_queue_delay_microseconds(
      std::chrono::duration_cast<std::chrono::microseconds>(options.queue.max_delay).count());
  batching.mutable_default_queue_policy()->set_max_queue_size(
      static_cast<uint32_t>(options.queue_capacity));
  inference::ModelInstanceGroup& group = *message.add_instance_group();
  group.set_name(model.name());
  group.set_kind(info.device == "cpu" ? inference::ModelInstanceGroup::KIND_CPU
                                      : inference::ModelInstanceGroup::KIND_GPU);
  group.set_count(options.replicas);
  message.set_default_model_filename("model.safetensors");
  SetParameter(message, "architecture", info.architecture);
  SetParameter(message, "precision", info.precision);
  SetParameter(message, "engine", info.engine);
  SetParameter(message, "max_batch", absl::StrCat(options.queue.max_batch));
}

}  // namespace dla::server
