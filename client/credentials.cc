#include "client/credentials.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <tuple>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "client/server_connection.h"

namespace dla::client {
namespace {

constexpr uintmax_t kMaxFileBytes = 1 << 20;

absl::StatusOr<std::string> ReadFile(absl::string_view option, const std::string& path) {
  std::error_code error;
  const uintmax_t size = std::filesystem::file_size(path, error);
  std::ifstream file(path, std::ios::binary);
  if (error || !file || size > kMaxFileBytes) {
    return absl::InvalidArgumentError(absl::StrCat(option, " ", path, " cannot be read",
                                                   error ? absl::StrCat(": ", error.message())
                                                   : size > kMaxFileBytes ? ": it is too large"
                                                                          : ""));
  }
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class TokenSender final : public grpc::experimental::Interceptor {
 public:
  explicit TokenSender(const std::string& authorization) : authorization_(authorization) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(
            grpc::experimental::InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      methods->GetSendInitialMetadata()->insert({"authorization", authorization_});
    }
    methods->Proceed();
  }

 private:
  const std::string& authorization_;  // of the factory, which lives as long as the channel
};

class TokenSenders final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenSenders(const std::string& token) : authorization_("Bearer " + token) {}

  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo*) override {
    return new TokenSender(authorization_);
  }

 private:
  const std::string authorization_;
};

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeCredentials(
    const ServerOptions& options) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("--tls-cert and --tls-key are given together or not at all");
  }
  if (!options.tls && options.tls_ca.empty() && options.tls_cert.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  grpc::SslCredentialsOptions files;
  for (const auto& [option, path, content] :
       {std::tuple<const char*, const std::string&, std::string&>{"--tls-ca", options.tls_ca,
                                                                  files.pem_root_certs},
        {"--tls-cert", options.tls_cert, files.pem_cert_chain},
        {"--tls-key", options.tls_key, files.pem_private_key}}) {
    if (path.empty()) continue;
    absl::StatusOr<std::string> read = ReadFile(option, path);
    if (!read.ok()) return read.status();
    content = *std::move(read);
    if (content.find("-----BEGIN ") == std::string::npos) {
      return absl::InvalidArgumentError(
          absl::StrCat(option, " ", path, " is not in PEM format (-----BEGIN ...)"));
    }
  }
  return grpc::SslCredentials(files);
}

absl::StatusOr<std::string> ReadToken(const ServerOptions& options) {
  std::string token;
  std::string source = "$DLA_TOKEN";
  if (!options.token_file.empty()) {
    absl::StatusOr<std::string> read = ReadFile("--token-file", options.token_file);
    if (!read.ok()) return read.status();
    source = absl::StrCat("--token-file ", options.token_file);
    token = std::string(absl::StripAsciiWhitespace(read->substr(0, read->find('\n'))));
    if (token.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(source, " has no token in its first line"));
    }
  } else if (const char* set = std::getenv("DLA_TOKEN"); set != nullptr) {
    token = set;
  }
  if (!std::all_of(token.begin(), token.end(),
                   [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); })) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, " holds no token: it has blanks or characters beyond ASCII"));
  }
  return token;
}

std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> SendToken(
    const std::string& token) {
  return std::make_unique<TokenSenders>(token);
}

}  // namespace dla::client
