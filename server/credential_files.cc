#include "server/credential_files.h"

#include <utility>

#include "model/status_macros.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

// One look at one kind of file: true if there is something new to use. Says what came of it, but
// nothing where a look from time to time finds all as before.
template <typename T>
bool LookAt(const char* what, Settled<T>& files, absl::StatusOr<T> now, bool at_once) {
  const absl::Status error_before = files.error();
  const bool changed = files.Look(std::move(now), at_once);
  if (changed) {
    spdlog::info("credentials {}=reloaded", what);
  } else if (!files.error().ok()) {
    if (at_once || files.error() != error_before) {
      spdlog::error("credentials {}=kept reason={}", what, LogValue(files.error().message()));
    }
  } else if (at_once) {
    spdlog::info("credentials {}=unchanged", what);
  }
  return changed;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CredentialFiles>> CredentialFiles::Read(Options options,
                                                                       Clock& clock) {
  std::unique_ptr<CredentialFiles> files(new CredentialFiles(std::move(options), clock));
  MutexLock lock(files->look_mu_);
  if (!files->options_.tls.certificate.empty()) {
    DLA_ASSIGN_OR_RETURN(TlsFiles tls, ReadTlsFiles(files->options_.tls));
    files->tls_ = std::make_shared<TlsCredentials>(tls);
    files->http_tls_ = std::make_shared<HttpTls>(tls);
    files->tls_files_.emplace(std::move(tls));
  }
  if (!files->options_.token_file.empty()) {
    DLA_ASSIGN_OR_RETURN(TokenTable tokens, TokenTable::Read(files->options_.token_file));
    files->token_table_.emplace(std::move(tokens));
  }
  return files;
}

CredentialFiles::~CredentialFiles() {
  {
    MutexLock lock(mu_);
    stopping_ = true;
  }
  stop_.NotifyAll();
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const TokenTable> CredentialFiles::tokens() const {
  MutexLock lock(look_mu_);
  if (!token_table_.has_value()) return nullptr;
  return std::make_shared<const TokenTable>(token_table_->used());
}

void CredentialFiles::Watch(Gatekeeper& gatekeeper) {
  gatekeeper_ = &gatekeeper;
  const bool none = options_.tls.certificate.empty() && options_.token_file.empty();
  if (none || options_.poll <= Duration::zero()) return;
  thread_ = std::thread([this] {
    while (true) {
      {
        MutexLock lock(mu_);
        const TimePoint next = clock_.Now() + options_.poll;
        while (!stopping_ && clock_.Now() < next) clock_.WaitUntil(stop_, mu_, next);
        if (stopping_) return;
      }
      Look(/*at_once=*/false);
    }
  });
}

void CredentialFiles::Reload() { Look(/*at_once=*/true); }

void CredentialFiles::Look(bool at_once) {
  MutexLock lock(look_mu_);
  if (tls_files_.has_value() && LookAt("tls", *tls_files_, ReadTlsFiles(options_.tls), at_once)) {
    tls_->Set(tls_files_->used());
    http_tls_->Set(tls_files_->used());
  }
  if (token_table_.has_value() &&
      LookAt("tokens", *token_table_, TokenTable::Read(options_.token_file), at_once)) {
    gatekeeper_->SetTokens(std::make_shared<const TokenTable>(token_table_->used()));
  }
}

}  // namespace dla::server
