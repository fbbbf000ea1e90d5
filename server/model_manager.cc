#include "server/model_manager.h"

#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "model/json.h"
#include "model/quoted.h"
#include "model/status_macros.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

constexpr size_t kMostTasks = 64;

absl::StatusOr<VersionLabels> ReadLabels(const nlohmann::json& json) {
  if (!json.is_object()) {
    return absl::InvalidArgumentError(
        "\"version_labels\" is not an object such as {\"stable\": 1}");
  }
  VersionLabels labels;
  for (const auto& [label, version] : json.items()) {
    if (!version.is_number_unsigned()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the version of label ", Quoted(label), " in \"version_labels\" is not a whole number"));
    }
    const std::string number = std::to_string(version.get<uint64_t>());
    DLA_RETURN_IF_ERROR(CheckVersionLabel(label, number));
    labels[label] = number;
  }
  return labels;
}

// Nothing where the text is empty or says nothing about labels.
absl::StatusOr<std::optional<VersionLabels>> ReadConfig(const std::string& text) {
  std::optional<VersionLabels> labels;
  if (text.empty()) return labels;
  const absl::StatusOr<nlohmann::json> json = ParseJson(text, "config");
  if (!json.ok() || !json->is_object()) {
    return absl::InvalidArgumentError(absl::StrCat("the model's config is not a JSON object",
                                                   json.ok() ? "" : ": ", json.status().message()));
  }
  for (const auto& [key, value] : json->items()) {
    if (key != "version_labels") {
      return absl::InvalidArgumentError(absl::StrCat("the model's config has the key ", Quoted(key),
                                                     "; only \"version_labels\" can be set"));
    }
    DLA_ASSIGN_OR_RETURN(labels, ReadLabels(value));
  }
  return labels;
}

template <typename Map>
typename Map::mapped_type ValueOrNone(const Map& map, const std::string& key) {
  const auto it = map.find(key);
  return it == map.end() ? typename Map::mapped_type() : it->second;
}

absl::Status Closed() { return absl::UnavailableError("the server is shutting down"); }

}  // namespace

ModelManager::ModelManager(const ServerConfig& config, std::unique_ptr<ModelLoader> loader,
                           ModelRegistry& registry, Clock& clock)
    : config_(config),
      loader_(std::move(loader)),
      registry_(registry),
      clock_(clock),
      labels_(config.version_labels) {}

ModelManager::~ModelManager() { Stop(); }

absl::Status ModelManager::LoadInitial() {
  DLA_ASSIGN_OR_RETURN(std::vector<ModelSource> sources, FindModelSources(config_));
  if (config_.model_control == "explicit") {
    std::set<std::string> wanted(config_.load_models.begin(), config_.load_models.end());
    for (const ModelSource& model : config_.models) wanted.insert(model.name);
    for (const std::string& name : config_.load_models) {
      DLA_RETURN_IF_ERROR(FindSource(name).status());
    }
    std::erase_if(sources, [&](const ModelSource& source) {
      return !source.folder.empty() && !wanted.contains(source.name);
    });
  }
  if (config_.model_control != "poll") {
    for (const auto& [name, labels] : labels_) DLA_RETURN_IF_ERROR(FindSource(name).status());
  }
  for (const ModelSource& source : sources) {
    Listings& listings = listings_[source.name];
    listings.tried = listings.seen = FolderListing(source.folder);
    absl::Status loaded = Apply(source, ValueOrNone(labels_, source.name), /*reuse=*/false);
    if (loaded.ok()) continue;
    if (config_.model_control != "poll") return loaded;
    spdlog::warn("{}", std::string(loaded.message()));
  }
  serving_ = true;
  return absl::OkStatus();
}

void ModelManager::Start(OnServing on_serving) {
  on_serving_ = std::move(on_serving);
  next_look_ = clock_.Now() + std::chrono::seconds(config_.repository_poll_seconds);
  thread_ = std::thread([this] { Work(); });
}

void ModelManager::Close() {
  std::deque<Task> refused;
  {
    MutexLock lock(mu_);
    closed_ = true;
    refused.swap(tasks_);
  }
  changed_.NotifyAll();
  for (Task& task : refused) std::move(task.done)(Closed());
}

void ModelManager::Stop() {
  Close();
  if (thread_.joinable()) thread_.join();
}

void ModelManager::Submit(std::function<absl::Status()> run, Done done) {
  absl::Status refused;
  {
    MutexLock lock(mu_);
    if (closed_) {
      refused = Closed();
    } else if (tasks_.size() >= kMostTasks) {
      refused = absl::ResourceExhaustedError(
          absl::StrCat(kMostTasks, " models wait to be loaded or unloaded; try again later"));
    } else {
      tasks_.push_back({.run = std::move(run), .done = std::move(done)});
    }
  }
  if (refused.ok()) {
    changed_.NotifyAll();
  } else {
    std::move(done)(refused);  // NOLINT(bugprone-use-after-move): a refused one was not moved
  }
}

void ModelManager::Work() {
  const bool polls = config_.model_control == "poll";
  for (;;) {
    std::optional<Task> task;
    bool look = false;
    {
      MutexLock lock(mu_);
      for (;;) {
        if (closed_) return;
        look = polls && clock_.Now() >= next_look_;
        if (look || !tasks_.empty()) break;
        if (polls) {
          clock_.WaitUntil(changed_, mu_, next_look_);
        } else {
          changed_.Wait(mu_);
        }
      }
      if (!look) {
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
    }
    if (look) {
      Look();
      next_look_ = clock_.Now() + std::chrono::seconds(config_.repository_poll_seconds);
    } else {
      std::move(task->done)(task->run());
    }
  }
}

void ModelManager::Load(std::string name, const std::string& config_json, Done done) {
  absl::StatusOr<std::optional<VersionLabels>> labels = ReadConfig(config_json);
  absl::Status refused = labels.status();
  if (!accepts_control()) {
    refused = absl::FailedPreconditionError(
        "models are loaded on request with --model-control explicit only");
  }
  if (!refused.ok()) {
    std::move(done)(refused);
    return;
  }
  Submit(
      [this, name = std::move(name), labels = *std::move(labels)]() -> absl::Status {
        DLA_ASSIGN_OR_RETURN(const ModelSource source, FindSource(name));
        listings_[name].tried = FolderListing(source.folder);
        const VersionLabels chosen = labels.has_value() ? *labels : ValueOrNone(labels_, name);
        DLA_RETURN_IF_ERROR(Apply(source, chosen, /*reuse=*/labels.has_value()));
        labels_[name] = chosen;
        return absl::OkStatus();
      },
      std::move(done));
}

void ModelManager::Unload(std::string name, Done done) {
  if (!accepts_control()) {
    std::move(done)(absl::FailedPreconditionError(
        "models are unloaded on request with --model-control explicit only"));
    return;
  }
  Submit([this, name = std::move(name)] { return Drop(name); }, std::move(done));
}

void ModelManager::SetLabels(std::map<std::string, VersionLabels> labels, Done done) {
  Submit([this, labels = std::move(labels)] { return ApplyLabels(labels); }, std::move(done));
}

absl::Status ModelManager::ApplyLabels(const std::map<std::string, VersionLabels>& labels) {
  DLA_ASSIGN_OR_RETURN(const std::vector<ModelSource> sources, FindModelSources(config_));
  absl::Status first;
  for (const ModelSource& source : sources) {
    const VersionLabels wanted = ValueOrNone(labels, source.name);
    const bool served = !registry_.Versions(source.name).empty();
    if (served && wanted != ValueOrNone(labels_, source.name)) {
      const absl::Status applied = Apply(source, wanted, /*reuse=*/true);
      first.Update(applied);
      if (!applied.ok()) continue;
    }
    labels_[source.name] = wanted;
  }
  return first;
}

absl::StatusOr<ModelSource> ModelManager::FindSource(const std::string& name) const {
  DLA_ASSIGN_OR_RETURN(const std::vector<ModelSource> sources, FindModelSources(config_));
  std::vector<std::string> known;
  for (const ModelSource& source : sources) {
    if (source.name == name) return source;
    known.push_back(source.name);
  }
  return absl::NotFoundError(
      absl::StrCat("no model is named ", Quoted(name),
                   "; the repository and the flags have: ", absl::StrJoin(known, ", ")));
}

absl::StatusOr<ModelRegistry::Models> ModelManager::LoadVersions(const ModelVersions& versions,
                                                                 bool reuse) {
  ModelRegistry::Models loaded;
  std::map<std::string, std::string> listings;
  const std::string& name = versions.folders.front().name;
  for (const ModelFolder& folder : versions.folders) {
    std::string listing = FolderListing(folder.path);
    std::shared_ptr<ServedModel> model;
    if (reuse && ValueOrNone(listings_[name].versions, folder.version) == listing) {
      for (const auto& former : registry_.Versions(name)) {
        if (former->version() == folder.version) model = former;
      }
    }
    if (model == nullptr) {
      absl::StatusOr<std::shared_ptr<ServedModel>> fresh = loader_->Load(folder, serving_);
      if (!fresh.ok()) {
        Tell(name, {}, folder.version, fresh.status());
        return fresh.status();
      }
      model = *std::move(fresh);
    }
    listings[folder.version] = std::move(listing);
    loaded.push_back(std::move(model));
  }
  listings_[name].versions = std::move(listings);
  return loaded;
}

absl::Status ModelManager::Apply(const ModelSource& source, const VersionLabels& labels,
                                 bool reuse) {
  const absl::StatusOr<ModelVersions> versions = FindModelVersions(source, labels);
  if (!versions.ok()) {
    Tell(source.name, {}, "", versions.status());
    return versions.status();
  }
  std::vector<std::string> loading;
  for (const ModelFolder& folder : versions->folders) loading.push_back(folder.version);
  Tell(source.name, loading, "", absl::OkStatus());
  DLA_ASSIGN_OR_RETURN(ModelRegistry::Models models, LoadVersions(*versions, reuse));
  const ModelRegistry::Models former = registry_.Versions(source.name);
  registry_.Set(source.name, std::move(models), versions->labels);
  Tell(source.name, {}, "", absl::OkStatus());
  TellUnloading(source.name, former);
  if (on_serving_) on_serving_(source.name, true);
  return absl::OkStatus();
}

absl::Status ModelManager::Drop(const std::string& name) {
  const ModelRegistry::Models former = registry_.Versions(name);
  if (former.empty()) return FindSource(name).status();
  registry_.Remove(name);
  Tell(name, {}, "", absl::OkStatus());
  TellUnloading(name, former);
  if (on_serving_) on_serving_(name, false);
  spdlog::info("unloaded model={}", LogValue(name));
  return absl::OkStatus();
}

void ModelManager::Look() {
  const absl::StatusOr<std::vector<ModelSource>> sources = FindModelSources(config_);
  if (!sources.ok()) {
    const std::string warning(sources.status().message());
    if (warning != last_warning_) spdlog::warn("the models stay as they are: {}", warning);
    last_warning_ = warning;
    return;
  }
  last_warning_.clear();
  std::set<std::string> found;
  for (const ModelSource& source : *sources) {
    found.insert(source.name);
    LookAt(source);
  }
  for (const auto& model : registry_.models()) {
    if (!found.contains(model->name())) (void)Drop(model->name());
  }
  std::erase_if(listings_, [&](const auto& entry) {
    if (found.contains(entry.first)) return false;
    loader_->Report(entry.first, absl::OkStatus());  // also of one that was never served
    return true;
  });
}

void ModelManager::LookAt(const ModelSource& source) {
  Listings& listings = listings_[source.name];
  std::string now = FolderListing(source.folder);
  if (now == listings.tried) return;
  if (now != listings.seen) {  // perhaps still being written
    listings.seen = std::move(now);
    return;
  }
  listings.tried = std::move(now);
  const absl::Status loaded = Apply(source, ValueOrNone(labels_, source.name), /*reuse=*/true);
  if (!loaded.ok()) spdlog::warn("{}", std::string(loaded.message()));
}

void ModelManager::Tell(const std::string& name, std::vector<std::string> loading,
                        const std::string& failed_version, const absl::Status& status) {
  if (loading.empty()) loader_->Report(name, status);
  MutexLock lock(mu_);
  Record& record = records_[name];
  record.loading = std::move(loading);
  record.failed_version = failed_version;
  record.failure = std::string(status.message());
}

void ModelManager::TellUnloading(const std::string& name, const ModelRegistry::Models& former) {
  const ModelRegistry::Models served = registry_.Versions(name);
  MutexLock lock(mu_);
  std::map<std::string, std::weak_ptr<ServedModel>>& unloading = records_[name].unloading;
  unloading.clear();
  for (const auto& model : former) unloading[model->version()] = model;
  for (const auto& model : served) unloading.erase(model->version());
}

std::vector<ModelState> ModelManager::Index() const {
  std::set<std::string> names;
  for (const auto& model : registry_.models()) names.insert(model->name());
  if (const auto sources = FindModelSources(config_); sources.ok()) {
    for (const ModelSource& source : *sources) names.insert(source.name);
  }
  std::map<std::string, Record> records;
  {
    MutexLock lock(mu_);
    records = records_;
  }
  std::vector<ModelState> index;
  for (const std::string& name : names) {
    const Record record = ValueOrNone(records, name);
    std::map<std::string, ModelState> versions;
    for (const auto& [version, model] : record.unloading) {
      const bool gone = model.expired();
      versions[version] = {name, version, gone ? "UNAVAILABLE" : "UNLOADING", "unloaded"};
    }
    for (const std::string& version : record.loading) {
      versions[version] = {name, version, "LOADING", ""};
    }
    if (!record.failure.empty()) {
      versions[record.failed_version] = {name, record.failed_version, "UNAVAILABLE",
                                         record.failure};
    }
    // Last, for what is served is served whatever comes of its next load.
    for (const auto& model : registry_.Versions(name)) {
      ModelState& state = versions[model->version()];
      state = {name, model->version(), "READY", state.state == "UNAVAILABLE" ? state.reason : ""};
      if (!model->health().healthy()) {
        state = {name, model->version(), "UNAVAILABLE", model->health().reason()};
      }
    }
    if (versions.empty()) versions[""] = {name, "", "UNAVAILABLE", ""};
    for (auto& [version, state] : versions) index.push_back(std::move(state));
  }
  return index;
}

}  // namespace dla::server
