#include "server/model_registry.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/quoted.h"

namespace dla::server {
namespace {

int64_t Number(const ServedModel& model) {
  int64_t number = 0;
  return absl::SimpleAtoi(model.version(), &number) ? number : 0;
}

}  // namespace

void ModelRegistry::Set(const std::string& name, Models versions, VersionLabels labels) {
  std::sort(versions.begin(), versions.end(),
            [](const auto& a, const auto& b) { return Number(*a) < Number(*b); });
  Entry entry{.name = name, .versions = std::move(versions), .labels = std::move(labels)};
  MutexLock lock(mu_);
  auto it = std::find_if(entries_.begin(), entries_.end(),
                         [&](const Entry& e) { return e.name == name; });
  if (it == entries_.end()) {
    entries_.push_back(std::move(entry));
  } else {
    std::swap(*it, entry);
  }
}

bool ModelRegistry::Remove(absl::string_view name) {
  MutexLock lock(mu_);
  return std::erase_if(entries_, [&](const Entry& e) { return e.name == name; }) > 0;
}

const ModelRegistry::Entry* ModelRegistry::FindEntry(absl::string_view name) const {
  for (const Entry& entry : entries_) {
    if (name.empty() || entry.name == name) return &entry;
  }
  return nullptr;
}

std::shared_ptr<ServedModel> ModelRegistry::Entry::Find(absl::string_view version) const {
  if (version.empty() && !labels.contains("stable")) return versions.back();
  const auto label = labels.find(std::string(version.empty() ? "stable" : version));
  if (label != labels.end()) version = label->second;
  for (const auto& model : versions) {
    if (model->version() == version) return model;
  }
  return nullptr;
}

absl::StatusOr<std::shared_ptr<ServedModel>> ModelRegistry::Find(absl::string_view name,
                                                                 absl::string_view version) const {
  MutexLock lock(mu_);
  const Entry* entry = FindEntry(name);
  if (entry == nullptr) {
    return absl::NotFoundError(absl::StrCat(
        "no model is named ", Quoted(name), "; served are: ",
        absl::StrJoin(entries_, ", ", [](std::string* out, const Entry& e) { *out += e.name; })));
  }
  if (std::shared_ptr<ServedModel> model = entry->Find(version); model != nullptr) return model;
  std::vector<std::string> known;
  for (const auto& model : entry->versions) known.push_back(model->version());
  for (const auto& [label, target] : entry->labels) {
    known.push_back(absl::StrCat(label, " (", target, ")"));
  }
  return absl::NotFoundError(absl::StrCat("model \"", entry->name, "\" has no version ",
                                          Quoted(version),
                                          "; served are: ", absl::StrJoin(known, ", ")));
}

ModelRegistry::Models ModelRegistry::models() const {
  Models result;
  MutexLock lock(mu_);
  for (const Entry& entry : entries_) {
    if (auto model = entry.Find(""); model != nullptr) result.push_back(std::move(model));
  }
  return result;
}

ModelRegistry::Models ModelRegistry::Versions(absl::string_view name) const {
  MutexLock lock(mu_);
  const Entry* entry = name.empty() ? nullptr : FindEntry(name);
  return entry == nullptr ? Models() : entry->versions;
}

}  // namespace dla::server
