#include "server/gatekeeper.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "grpc/grpc_security_constants.h"
#include "server/log_value.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

constexpr size_t kMaxNameBytes = 128;
constexpr int kMaxLines = 10;
constexpr Duration kLinesPeriod = std::chrono::seconds(10);

absl::string_view View(grpc::string_ref text) { return {text.data(), text.size()}; }

std::string Bounded(absl::string_view name) { return std::string(name.substr(0, kMaxNameBytes)); }

class GrpcCall final : public CallInfo {
 public:
  explicit GrpcCall(const grpc::ServerContextBase& call) : call_(call) {}

  absl::InlinedVector<absl::string_view, 1> Values(const std::string& key) const override {
    absl::InlinedVector<absl::string_view, 1> values;
    const auto [first, last] = call_.client_metadata().equal_range(key);
    for (auto each = first; each != last; ++each) values.push_back(View(each->second));
    return values;
  }
  std::string CertificateName() const override {
    const std::shared_ptr<const grpc::AuthContext> authenticated = call_.auth_context();
    if (authenticated == nullptr || !authenticated->IsPeerAuthenticated()) return "";
    const auto names = authenticated->GetPeerIdentity();
    return names.empty() ? "" : std::string(View(names[0]));
  }
  std::string Host() const override { return PeerHost(call_.peer()); }

 private:
  const grpc::ServerContextBase& call_;
};

absl::Status NoToken(absl::string_view what) {
  return absl::UnauthenticatedError(absl::StrCat(what, "; send \"authorization: Bearer TOKEN\""));
}

// The token that the caller shows. It lives as long as the call.
absl::StatusOr<absl::string_view> TokenOf(const CallInfo& call) {
  const auto values = call.Values("authorization");
  if (values.empty()) return NoToken("this server wants a token");
  if (values.size() > 1) return NoToken("there is more than one authorization");
  absl::string_view value = values[0];
  static constexpr absl::string_view kBearer = "bearer ";
  if (!absl::StartsWithIgnoreCase(value, kBearer)) {
    return NoToken("the authorization is not of the kind Bearer");
  }
  value = absl::StripAsciiWhitespace(value.substr(kBearer.size()));
  if (value.empty()) return NoToken("the token is empty");
  return value;
}

}  // namespace

std::string PeerHost(absl::string_view peer) {
  if (absl::ConsumePrefix(&peer, "ipv4:")) return std::string(peer.substr(0, peer.rfind(':')));
  if (absl::ConsumePrefix(&peer, "ipv6:")) {
    // gRPC writes it as part of a URI.
    std::string plain = absl::StrReplaceAll(
        peer, {{"%5B", "["}, {"%5D", "]"}, {"%5b", "["}, {"%5d", "]"}, {"%25", "%"}});
    const size_t end = plain.rfind(']');
    if (plain.empty() || plain[0] != '[' || end == std::string::npos) return plain;
    return plain.substr(1, end - 1);
  }
  return std::string(peer.substr(0, peer.find(':')));
}

Gatekeeper::Gatekeeper(Options options, Clock& clock)
    : open_(options.tokens == nullptr),
      client_id_metadata_(std::move(options.client_id_metadata)),
      clock_(clock),
      tokens_(std::move(options.tokens)),
      lines_since_(clock.Now()) {}

absl::StatusOr<Identity> Gatekeeper::Admit(const grpc::ServerContextBase& call, Scope needed,
                                           absl::string_view method) const {
  return Admit(GrpcCall(call), needed, method);
}

absl::StatusOr<Identity> Gatekeeper::Admit(const CallInfo& call, Scope needed,
                                           absl::string_view method) const {
  if (open_) return NameOf(call);
  std::shared_ptr<const TokenTable> tokens;
  {
    MutexLock lock(mu_);
    tokens = tokens_;
  }
  absl::StatusOr<Identity> identity = AdmitByToken(*tokens, call, needed);
  if (!identity.ok()) LogDenial(call, method, identity.status());
  return identity;
}

void Gatekeeper::SetTokens(std::shared_ptr<const TokenTable> tokens) {
  MutexLock lock(mu_);
  tokens_ = std::move(tokens);
}

absl::StatusOr<Identity> Gatekeeper::AdmitByToken(const TokenTable& tokens, const CallInfo& call,
                                                  Scope needed) const {
  const absl::StatusOr<absl::string_view> token = TokenOf(call);
  if (!token.ok()) return token.status();
  const TokenTable::Entry* entry = tokens.Find(*token);
  if (entry == nullptr) return NoToken("nobody has this token");
  if (entry->May(needed)) return Identity{entry->name};
  return absl::PermissionDeniedError(absl::StrCat("this call needs a token with the scope ",
                                                  ToString(needed), ", which \"", entry->name,
                                                  "\" does not have"));
}

Identity Gatekeeper::NameOf(const CallInfo& call) const {
  if (const std::string name = call.CertificateName(); !name.empty()) return {Bounded(name)};
  if (!client_id_metadata_.empty()) {
    const auto values = call.Values(client_id_metadata_);
    if (!values.empty()) return {Bounded(values[0])};
  }
  return {Bounded(call.Host())};
}

void Gatekeeper::LogDenial(const CallInfo& call, absl::string_view method,
                           const absl::Status& why) const {
  int64_t unlogged = 0;
  {
    MutexLock lock(mu_);
    const TimePoint now = clock_.Now();
    if (now - lines_since_ >= kLinesPeriod) {
      lines_since_ = now;
      lines_ = 0;
    }
    if (lines_ >= kMaxLines) {
      ++unlogged_;
      return;
    }
    ++lines_;
    std::swap(unlogged, unlogged_);
  }
  spdlog::warn("denied method={} code={} caller={} reason={} unlogged_before={}", LogValue(method),
               absl::StatusCodeToString(why.code()), LogValue(NameOf(call).name),
               LogValue(why.message()), unlogged);
}

}  // namespace dla::server
