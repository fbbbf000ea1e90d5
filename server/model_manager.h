// Loads, replaces and unloads models while the server serves.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "server/clock.h"
#include "server/config.h"
#include "server/model_loader.h"
#include "server/model_registry.h"
#include "server/model_repository.h"
#include "server/mutex.h"

namespace dla::server {

// One version of a model, in Triton's words.
struct ModelState {
  std::string name;
  std::string version;  // empty where none was looked for yet
  std::string state;    // READY, LOADING, UNLOADING, UNAVAILABLE
  std::string reason;   // why it is not ready, or why a newer one could not replace it; or empty
};

// All loading and unloading happens on one thread, one after the other, so no handler waits for it.
// A model that takes another's place is loaded and tested beside it, then the registry swaps them
// at once; who holds the old one still gets his answers. If that fails, the old one stays.
// Thread-safe but for LoadInitial and Start.
class ModelManager {
 public:
  using Done = absl::AnyInvocable<void(absl::Status) &&>;

  // Called for a model that is served from now on, or no longer; by the manager's thread.
  using OnServing = std::function<void(const std::string& name, bool serving)>;

  // `registry` and `clock` outlive the object.
  ModelManager(const ServerConfig& config, std::unique_ptr<ModelLoader> loader,
               ModelRegistry& registry, Clock& clock);

  // As Close; waits for a load that is under way.
  ~ModelManager();

  ModelManager(const ModelManager&) = delete;
  ModelManager& operator=(const ModelManager&) = delete;

  // Loads what is to be served from the start, on this thread. Where models are polled one that
  // cannot be loaded is left out; else the first error ends it.
  absl::Status LoadInitial();

  // Starts the thread, after LoadInitial.
  void Start(OnServing on_serving);

  // Refuses what comes from now on and what waits: UNAVAILABLE. Idempotent.
  void Close();

  // Close, then waits for the thread. Not to be called by `done` or OnServing. Idempotent.
  void Stop();

  // False: Load and Unload answer FAILED_PRECONDITION.
  bool accepts_control() const { return config_.model_control == "explicit"; }

  // Loads a model, or loads it again. `config_json`: empty, or {"version_labels": {"stable": 1}},
  // which takes the place of the labels that the model had; then versions whose files have not
  // changed are not loaded again. `done` is called once, perhaps before this returns, else by the
  // manager's thread: NOT_FOUND for a model or version that does not exist, INVALID_ARGUMENT names
  // a key of `config_json`, RESOURCE_EXHAUSTED when too many wait, or what loading failed with.
  void Load(std::string name, const std::string& config_json, Done done);

  // From `done` on the model takes no requests; those that it has are answered. OK for a model that
  // is not loaded, NOT_FOUND for one that does not exist.
  void Unload(std::string name, Done done);

  // Labels of all models from now on, by model; versions that they need are loaded. `done` gets the
  // first error; the model then keeps the labels that it had.
  void SetLabels(std::map<std::string, VersionLabels> labels, Done done);

  // Every model of the repository and of the flags, loaded or not. Lists the repository's folder.
  std::vector<ModelState> Index() const;

 private:
  struct Task {
    std::function<absl::Status()> run;
    Done done;
  };

  // Of one model's folder; see FolderListing.
  struct Listings {
    std::string tried;                            // before it was last loaded or tried to
    std::string seen;                             // at the last look
    std::map<std::string, std::string> versions;  // of those that are served
  };

  // What Index tells of a model besides the versions that are served.
  struct Record {
    std::vector<std::string> loading;  // versions
    std::map<std::string, std::weak_ptr<ServedModel>> unloading;
    std::string failed_version;  // empty: all of them
    std::string failure;
  };

  void Submit(std::function<absl::Status()> run, Done done);
  void Work();
  void Look();
  void LookAt(const ModelSource& source);

  absl::StatusOr<ModelSource> FindSource(const std::string& name) const;
  // `reuse`: versions whose files are as they were when they were loaded stay as they are.
  absl::Status Apply(const ModelSource& source, const VersionLabels& labels, bool reuse);
  absl::StatusOr<ModelRegistry::Models> LoadVersions(const ModelVersions& versions, bool reuse);
  absl::Status Drop(const std::string& name);
  absl::Status ApplyLabels(const std::map<std::string, VersionLabels>& labels);

  // Sets what Index tells of a model; versions that it was served in and is not are unloading.
  void Tell(const std::string& name, std::vector<std::string> loading,
            const std::string& failed_version, const absl::Status& status);
  void TellUnloading(const std::string& name, const ModelRegistry::Models& former);

  const ServerConfig config_;
  const std::unique_ptr<ModelLoader> loader_;
  ModelRegistry& registry_;
  Clock& clock_;
  OnServing on_serving_;

  // Of the thread that loads: the constructor's until Start, the manager's from there on.
  std::map<std::string, VersionLabels> labels_;
  std::map<std::string, Listings> listings_;
  bool serving_ = false;
  TimePoint next_look_;
  std::string last_warning_;

  mutable Mutex mu_;
  CondVar changed_;
  std::deque<Task> tasks_ ABSL_GUARDED_BY(mu_);
  bool closed_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, Record> records_ ABSL_GUARDED_BY(mu_);
  std::thread thread_;
};

}  // namespace dla::server
