// The models that the server offers right now, by name, version and version label.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/config.h"
#include "server/mutex.h"
#include "server/served_model.h"

namespace dla::server {

// Thread-safe. A model lives for as long as somebody holds it, here or elsewhere.
class ModelRegistry {
 public:
  using Models = std::vector<std::shared_ptr<ServedModel>>;

  // From now on `name` is served in these versions, at least one, and in no other. Calls that hold
  // one of the former versions keep it. A new name comes last in the order of models.
  void Set(const std::string& name, Models versions, VersionLabels labels = {});

  // False when there is none.
  bool Remove(absl::string_view name);

  // An empty name finds the first model, an empty version the default one: the one that label
  // "stable" names, else the highest. A version may be named by a label. NOT_FOUND names those
  // that exist.
  absl::StatusOr<std::shared_ptr<ServedModel>> Find(absl::string_view name,
                                                    absl::string_view version = "") const;

  // The default version of each model, in the order of models.
  Models models() const;

  // All versions of a model, the lowest first; none when there is no such model.
  Models Versions(absl::string_view name) const;

 private:
  struct Entry {
    std::string name;
    Models versions;  // the lowest first
    VersionLabels labels;

    std::shared_ptr<ServedModel> Find(absl::string_view version) const;  // or null
  };

  const Entry* FindEntry(absl::string_view name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable Mutex mu_;
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mu_);
};

}  // namespace dla::server
