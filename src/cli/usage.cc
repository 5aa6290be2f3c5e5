#include "cli/usage.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>

#include "base/text.h"
#include "cli/report_json.h"

namespace faultline {
namespace {

// False with errno set.
bool WriteText(int fd, const std::string& text) {
  size_t written = 0;
  while (written < text.size()) {
    ssize_t count = write(fd, text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR) return false;
    if (count > 0) written += static_cast<size_t>(count);
  }
  return true;
}

}  // namespace

ExitStatus UsageError(const absl::Status& status, const std::string& subcommand) {
  (void)WriteText(STDERR_FILENO,
                  fmt::format("faultline: {}\nSee 'faultline {}{}--help'.\n", MessageOf(status),
                              subcommand, subcommand.empty() ? "" : " "));
  return ExitStatus::kUsage;
}

ExitStatus CommandError(const absl::Status& status) {
  (void)WriteText(STDERR_FILENO, fmt::format("faultline: {}\n", MessageOf(status)));
  return ExitStatus::kFailed;
}

ExitStatus WriteOut(const std::string& text, ExitStatus exit_status) {
  if (WriteText(STDOUT_FILENO, text)) return exit_status;
  return CommandError(ErrnoStatus(errno, "write to stdout"));
}

absl::Status CheckUri(const std::string& uri, const std::string& option) {
  for (const std::string scheme : {"tcp://", "rdma://"}) {
    // Of several rails the first.
    const std::string first = scheme == "rdma://" ? uri.substr(0, uri.find(',')) : uri;
    if (first.rfind(scheme, 0) == 0 && PortOf(first).has_value() &&
        first.rfind(':') > scheme.size()) {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(
      fmt::format("{} '{}': give tcp://HOST:PORT or rdma://HOST:PORT, with a port from 0 to 65535",
                  option, uri));
}

absl::StatusOr<int64_t> ParseRecoveryTimeout(const std::string& text) {
  if (text == "none") return 0;
  absl::StatusOr<int64_t> us = ParseDurationUs(text);
  return us.ok() ? us : Annotate(us.status(), "--recovery-timeout");
}

absl::StatusOr<IntegrityWish> ParseIntegrity(const std::string& text, const KeptMigration* kept) {
  if (text == "on") return IntegrityWish::kOn;
  if (text == "off") return IntegrityWish::kOff;
  if (!text.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("--integrity: '{}' is not known; give on or off", text));
  }
  if (kept == nullptr) return IntegrityWish::kDefault;
  return kept->integrity ? IntegrityWish::kOn : IntegrityWish::kOff;
}

}  // namespace faultline
