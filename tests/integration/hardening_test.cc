// The real dla-server and dla-client at a door that strangers reach.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tests/support/certificates.h"
#include "tests/support/subprocess.h"
#include "tests/support/tcp.h"
#include "tests/support/temp_dir.h"

namespace dla::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kGoodToken[] = "good-token-of-the-batch-job";
constexpr char kBadToken[] = "bad-token-of-a-stranger";

class HardeningTest : public ::testing::Test {
 protected:
  // `before` is put in front of the command.
  void Start(std::vector<std::string> flags, std::vector<std::string> before = {},
             std::vector<std::pair<std::string, std::string>> environment = {}) {
    SubprocessOptions options;
    options.command = std::move(before);
    options.command.push_back(ProgramPath("dla-server"));
    for (const char* flag : {"--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0",
                             "--metrics-address", "127.0.0.1:0", "--log-level", "debug"}) {
      options.command.emplace_back(flag);
    }
    options.command.insert(options.command.end(), flags.begin(), flags.end());
    options.environment = std::move(environment);
    server_ = *Subprocess::Start(std::move(options));
    const auto ready = server_->WaitForLine(" ready ");
    ASSERT_TRUE(ready.ok()) << ready.status();
    address_ = LogField(*ready, "grpc");
  }

  struct Outcome {
    int code;
    std::string output;
    std::string errors;
  };
  static Outcome Run(std::vector<std::string> command, std::string input = "",
                     std::vector<std::pair<std::string, std::string>> environment = {}) {
    auto process = *Subprocess::Start({.command = std::move(command),
                                       .environment = std::move(environment),
                                       .input = std::move(input)});
    const int code = process->Wait().value_or(-1);
    return {code, process->output(), process->errors()};
  }
  Outcome Classify(std::vector<std::string> flags,
                   std::vector<std::pair<std::string, std::string>> environment = {}) {
    const std::string photo = std::string(DLA_TEST_DATA) + "/photos/roses_1793211631.jpg";
    std::vector<std::string> command = {ProgramPath("dla-client"), "classify", "--server", address_,
                                        photo};
    command.insert(command.end(), flags.begin(), flags.end());
    return Run(std::move(command), "", std::move(environment));
  }

  static std::string HashOf(const std::string& token) {
    const Outcome hashed = Run({ProgramPath("dla-server"), "--hash-token"}, token + "\n");
    EXPECT_EQ(hashed.code, 0) << hashed.errors;
    return std::string(absl::StripTrailingAsciiWhitespace(hashed.output));
  }
  std::string WriteTokens(const std::string& token) {
    return dir_.Write("tokens", absl::StrCat("batch-job infer ", HashOf(token), "\n"));
  }
  void WritePair(const CertificateAndKey& pair) {
    dir_.Write("cert.pem", pair.certificate);
    dir_.Write("key.pem", pair.key);
  }

  TempDir dir_;
  std::unique_ptr<Subprocess> server_;
  std::string address_;
};

TEST_F(HardeningTest, HashesATokenAsSha256sumDoesAndRefusesNothing) {
  EXPECT_EQ(HashOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_NE(Run({ProgramPath("dla-server"), "--hash-token"}, "\n").code, 0);
}

TEST_F(HardeningTest, TheClientIsLetInByMutualTlsAndTokenAndNoTokenIsEverLogged) {
  const CertificateAuthority servers("servers");
  const CertificateAuthority callers("callers");
  WritePair(servers.Issue("server"));
  const CertificateAndKey caller = callers.Issue("alice");
  Start({"--tls-cert", dir_.Path("cert.pem"), "--tls-key", dir_.Path("key.pem"), "--tls-client-ca",
         dir_.Write("callers.pem", callers.certificate()), "--token-file", WriteTokens(kGoodToken)},
        {}, {{"GRPC_VERBOSITY", "DEBUG"}, {"GRPC_TRACE", "http"}});
  const std::vector<std::string> tls = {
      "--tls-ca",   dir_.Write("servers.pem", servers.certificate()),
      "--tls-cert", dir_.Write("caller.pem", caller.certificate),
      "--tls-key",  dir_.Write("caller.key", caller.key)};
  auto with_token = tls;
  with_token.insert(with_token.end(),
                    {"--token-file", dir_.Write("token", absl::StrCat(kGoodToken, "\n"))});
  const Outcome answered = Classify(with_token);
  EXPECT_EQ(answered.code, 0) << answered.errors;
  EXPECT_THAT(answered.output, HasSubstr("roses"));
  EXPECT_EQ(Classify(tls, {{"DLA_TOKEN", kGoodToken}}).code, 0);

  const Outcome stranger = Classify(tls, {{"DLA_TOKEN", kBadToken}});
  EXPECT_EQ(stranger.code, 1);
  EXPECT_THAT(stranger.errors, AllOf(HasSubstr("nobody has this token"), HasSubstr("--token-file"),
                                     Not(HasSubstr(kBadToken))));
  EXPECT_EQ(Classify({"--tls-ca", dir_.Path("servers.pem")}, {{"DLA_TOKEN", kGoodToken}}).code, 1)
      << "without a certificate";
  EXPECT_EQ(Classify({}, {{"DLA_TOKEN", kGoodToken}}).code, 1) << "in plaintext";
  EXPECT_THAT(Classify({"--tls"}).errors,
              AllOf(HasSubstr("not to be trusted"), HasSubstr("--tls-ca")));

  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait().value_or(-1), 0);
  const std::string log = server_->errors() + server_->output();
  EXPECT_THAT(log, HasSubstr("denied method=GetModel code=UNAUTHENTICATED"));
  EXPECT_THAT(log, Not(HasSubstr(kGoodToken)));
  EXPECT_THAT(log, Not(HasSubstr(kBadToken)));
  EXPECT_THAT(log, Not(HasSubstr("PRIVATE KEY")));
}

TEST_F(HardeningTest, HealthNeedsTheAuthorityButNoToken) {
  const CertificateAuthority authority("authority");
  WritePair(authority.Issue("server"));
  Start({"--tls-cert", dir_.Path("cert.pem"), "--tls-key", dir_.Path("key.pem"), "--token-file",
         WriteTokens(kGoodToken)});
  std::vector<std::string> health = {ProgramPath("dla-client"), "health", "--server", address_};
  EXPECT_EQ(Run(health).code, 1);
  health.insert(health.end(), {"--tls-ca", dir_.Write("ca.pem", authority.certificate())});
  const Outcome well = Run(health);
  EXPECT_EQ(well.code, 0) << well.errors;
  EXPECT_EQ(well.output, "SERVING\n");
}

TEST_F(HardeningTest, SighupReadsTokensAndCertificatesAgain) {
  const CertificateAuthority first("first");
  const CertificateAuthority second("second");
  WritePair(first.Issue("server"));
  Start({"--tls-cert", dir_.Path("cert.pem"), "--tls-key", dir_.Path("key.pem"), "--token-file",
         WriteTokens(kGoodToken), "--credentials-poll-seconds", "0"});
  const std::vector<std::string> by_first = {"--tls-ca",
                                             dir_.Write("first.pem", first.certificate())};
  const std::vector<std::string> by_second = {"--tls-ca",
                                              dir_.Write("second.pem", second.certificate())};
  EXPECT_EQ(Classify(by_first, {{"DLA_TOKEN", kGoodToken}}).code, 0);

  WritePair(second.Issue("server"));
  WriteTokens("another-token");
  server_->Signal(SIGHUP);
  ASSERT_TRUE(server_->WaitForLine("credentials tls=reloaded").ok());
  ASSERT_TRUE(server_->WaitForLine("credentials tokens=reloaded").ok());
  EXPECT_EQ(Classify(by_second, {{"DLA_TOKEN", "another-token"}}).code, 0);
  EXPECT_EQ(Classify(by_second, {{"DLA_TOKEN", kGoodToken}}).code, 1);
  EXPECT_EQ(Classify(by_first, {{"DLA_TOKEN", "another-token"}}).code, 1);

  dir_.Write("key.pem", "no key");
  dir_.Write("tokens", "no tokens");
  server_->Signal(SIGHUP);
  const auto kept = server_->WaitForLine("credentials tls=kept");
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_THAT(*kept, HasSubstr("key.pem"));
  ASSERT_TRUE(server_->WaitForLine("credentials tokens=kept").ok());
  EXPECT_EQ(Classify(by_second, {{"DLA_TOKEN", "another-token"}}).code, 0);
}

TEST_F(HardeningTest, DoesNotStartWithHalfOfTlsOrWrongFilesAndSaysWhyInOneLine) {
  const CertificateAuthority authority("authority");
  WritePair(authority.Issue("server"));
  const std::string program = ProgramPath("dla-server");
  const auto refusal = [&](std::vector<std::string> flags) {
    flags.insert(flags.begin(), {program, "--grpc-address", "127.0.0.1:0", "--http-address",
                                 "127.0.0.1:0", "--metrics-address", "127.0.0.1:0"});
    const Outcome refused = Run(std::move(flags));
    EXPECT_GT(refused.code, 0);
    EXPECT_EQ(std::count(refused.errors.begin(), refused.errors.end(), '\n'), 1) << refused.errors;
    return refused.errors;
  };
  EXPECT_THAT(refusal({"--tls-cert", dir_.Path("cert.pem")}), HasSubstr("without --tls-key"));
  EXPECT_THAT(refusal({"--tls-client-ca", dir_.Path("cert.pem")}), HasSubstr("--tls-cert"));
  EXPECT_THAT(refusal({"--tls-cert", dir_.Path("cert.pem"), "--tls-key", "/does/not/exist"}),
              HasSubstr("/does/not/exist"));
  EXPECT_THAT(refusal({"--token-file", dir_.Write("t", "job infer hunter2\n")}),
              AllOf(HasSubstr(":1: "), Not(HasSubstr("hunter2"))));
  EXPECT_THAT(refusal({"--client-id-metadata", "authorization"}), HasSubstr("metadata key"));
}

// gRPC alone would never accept again once it had run out of descriptors.
TEST_F(HardeningTest, SurvivesMoreConnectionsThanItMayHaveOpenFiles) {
  Start({"--calibrate=false"}, {"/bin/sh", "-c", "ulimit -n 100; exec \"$@\"", "sh"});
  {
    std::vector<std::unique_ptr<TcpConnection>> connections;
    for (int i = 0; i < 300; ++i) connections.push_back(std::make_unique<TcpConnection>(address_));
  }
  EXPECT_EQ(Classify({}).code, 0);
  EXPECT_THAT(server_->errors(), HasSubstr("connections refused="));
}

// All files that the process opened for writing, made, renamed or removed.
std::set<std::string> WritesIn(const std::string& trace) {
  std::set<std::string> writes;
  for (absl::string_view line : absl::StrSplit(trace, '\n')) {
    const bool opens = absl::StrContains(line, "open");
    const bool writing = absl::StrContains(line, "O_WRONLY") || absl::StrContains(line, "O_RDWR") ||
                         absl::StrContains(line, "O_CREAT");
    if ((opens && !writing) || absl::StrContains(line, " = -1 ")) continue;
    const std::vector<absl::string_view> parts = absl::StrSplit(line, '"');
    if (parts.size() >= 3) writes.emplace(parts[1]);
  }
  return writes;
}

TEST_F(HardeningTest, WritesNothingButItsDeclaredCache) {
  if (access("/usr/bin/strace", X_OK) != 0) GTEST_SKIP() << "needs strace";
  const std::string trace = dir_.Path("trace");
  const std::string cache = dir_.Path("cache/calibration.json");
  const std::string calls_that_write =
      "trace=open,openat,creat,rename,renameat,renameat2,mkdir,mkdirat,unlink,unlinkat,link,"
      "symlink,truncate";
  Start({"--calibration-cache", cache},
        {"/usr/bin/strace", "-D", "-f", "-q", "-e", calls_that_write, "-o", trace});
  EXPECT_EQ(Classify({}).code, 0);
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait().value_or(-1), 0);
  std::string calls;  // the tracer outlives the server for a moment
  const std::regex end(absl::StrCat("(^|\\n)", server_->pid(), " +\\+\\+\\+ exited with 0"));
  while (!std::regex_search(calls, end)) calls = ReadFile(trace);
  EXPECT_THAT(calls, HasSubstr("O_RDONLY"));
  for (const std::string& path : WritesIn(calls)) {
    EXPECT_TRUE(path.starts_with(dir_.Path("cache")) || path.starts_with("/dev/")) << path;
  }
}

TEST_F(HardeningTest, RunsAsNobodyWithoutAHomeOnAReadOnlyRoot) {
  if (geteuid() != 0 || access("/usr/bin/setpriv", X_OK) != 0) GTEST_SKIP() << "needs root";
  // A mount namespace of its own, in which every file system is read-only.
  const std::string script =
      "mount --make-rprivate / && mount -o remount,bind,ro / && "
      "if touch /tmp/dla_writable 2>/dev/null; then mount -t tmpfs -o ro none /tmp || exit 9; fi; "
      "exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs "
      "--bounding-set=-all env -u HOME -u XDG_CACHE_HOME \"$@\"";
  if (Run({"/usr/bin/unshare", "-m", "/bin/sh", "-c", script, "sh", "/bin/true"}).code != 0) {
    GTEST_SKIP() << "needs the right to mount";
  }
  Start({"--calibration-cache", "/var/cache/dla-serve/calibration.json"},
        {"/usr/bin/unshare", "-m", "/bin/sh", "-c", script, "sh"});
  const std::string status = ReadFile(absl::StrCat("/proc/", server_->pid(), "/status"));
  EXPECT_THAT(status, AllOf(HasSubstr("Uid:\t65534\t65534"), HasSubstr("NoNewPrivs:\t1")));
  EXPECT_EQ(Classify({}).code, 0);
  EXPECT_THAT(server_->errors(), HasSubstr("calibration"));  // a warning that it cannot be kept
  server_->Signal(SIGTERM);
  EXPECT_EQ(server_->Wait().value_or(-1), 0);
}

}  // namespace
}  // namespace dla::testing
