#include "server/model_registry.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dla::server {

absl::StatusOr<std::shared_ptr<ServedModel>> ModelRegistry::Find(absl::string_view name,
                                                                 absl::string_view version) const {
  for (const auto& model : models_) {
    const bool matches = name.empty() || model->name() == name;
    if (matches && (version.empty() || model->version() == version)) return model;
  }
  return absl::NotFoundError(absl::StrCat(
      "no model is named \"", absl::CHexEscape(name.substr(0, 100)), "\"; served are: ",
      absl::StrJoin(models_, ", ", [](std::string* out, const std::shared_ptr<ServedModel>& m) {
        absl::StrAppend(out, m->name());
      })));
}

}  // namespace dla::server
