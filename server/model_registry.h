// The models that the server offers, by name.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/served_model.h"

namespace dla::server {

// Filled before the server starts, then only read: thread-safe from there on.
class ModelRegistry {
 public:
  // Names differ, which FindModelFolders sees to.
  void Add(std::shared_ptr<ServedModel> model) { models_.push_back(std::move(model)); }

  // An empty name finds the first model, an empty version the default one; a version may be named
  // by a label. NOT_FOUND names those that exist. A model lives for as long as somebody holds it.
  absl::StatusOr<std::shared_ptr<ServedModel>> Find(absl::string_view name,
                                                    absl::string_view version = "") const;

  // In the order in which they were added.
  const std::vector<std::shared_ptr<ServedModel>>& models() const { return models_; }

 private:
  std::vector<std::shared_ptr<ServedModel>> models_;
};

}  // namespace dla::server
