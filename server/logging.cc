#include "server/logging.h"

#include <memory>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "grpc/support/log.h"
#include "server/log_value.h"
#include "spdlog/pattern_formatter.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace dla::server {
namespace {

// Escapes what would break a line in two or command a terminal, wherever it came from.
class SafeMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& line) override {
    const std::string safe = LogLine({message.payload.data(), message.payload.size()});
    line.append(safe.data(), safe.data() + safe.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<SafeMessage>();
  }
};

}  // namespace

void SetUpLogging(const std::string& program, const std::string& level) {
  auto logger = spdlog::stderr_logger_mt(program);
  auto format = std::make_unique<spdlog::pattern_formatter>();
  format->add_flag<SafeMessage>('*').set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %*");
  logger->set_formatter(std::move(format));
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(logger);
  // gRPC reports every refused connection as an error of its own.
  gpr_set_log_function([](gpr_log_func_args* args) {
    // GRPC_TRACE has it print metadata, tokens included.
    const bool secret = absl::StrContains(absl::AsciiStrToLower(args->message), "authorization");
    spdlog::debug("grpc: {}", secret ? "(a message about authorization)" : args->message);
  });
}

}  // namespace dla::server
