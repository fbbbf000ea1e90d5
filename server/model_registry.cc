#include "server/model_registry.h"

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace dla::server {

absl::StatusOr<ServedModel*> ModelRegistry::Find(absl::string_view name) const {
  for (const auto& model : models_) {
    if (name.empty() || model->name() == name) return model.get();
  }
  return absl::NotFoundError(absl::StrCat(
      "no model is named \"", absl::CHexEscape(name.substr(0, 100)), "\"; served are: ",
      absl::StrJoin(models_, ", ", [](std::string* out, const std::unique_ptr<ServedModel>& m) {
        absl::StrAppend(out, m->name());
      })));
}

}  // namespace dla::server
