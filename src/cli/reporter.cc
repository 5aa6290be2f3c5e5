#include "cli/reporter.h"

#include <fmt/format.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>

#include <mutex>
#include <vector>

namespace faultline {
namespace {

class ConsoleSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit ConsoleSink(Console* console) : console_(console) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    console_->Line(Console::Stream::kError, std::string(text.data(), text.size()));
  }
  void flush_() override {}

 private:
  Console* const console_;
};

class JsonReporter final : public Reporter {
 public:
  JsonReporter(Console* console, spdlog::logger* log, Role role)
      : console_(console), log_(log), holds_back_(role == Role::kDestination) {}

  void Started(const std::string& migration_id) override {
    Keep({{"event", "started"}, {"id", migration_id}});
  }

  void Listening(const std::string& address, const OutputJson& extra) override {
    OutputJson object = {{"event", "listening"}, {"address", address}};
    // Of several rails the first.
    const std::optional<uint16_t> port = PortOf(address.substr(0, address.find(',')));
    if (port.has_value()) object["port"] = *port;
    object.update(extra);
    console_->Line(Console::Stream::kOut, ToLine(object));
    ReleaseHeld();
  }

  void PhaseChanged(Phase phase, const std::string& migration_id, uint64_t elapsed_us) override {
    // The last object says these two, with all that belongs to them.
    if (phase == Phase::kCompleted || phase == Phase::kFailed) return;
    Keep(PhaseJson(phase, migration_id, elapsed_us));
  }

  void Progressed(const ProgressSnapshot& snapshot) override {
    if (!holds_back_) console_->StaleLine(Console::Stream::kOut, ToLine(ProgressJson(snapshot)));
  }

  void Noticed(const std::string& text) override {
    log_->warn("{}", text);
    Keep(NoticeJson(text));
  }

  void Ended(const Outcome& outcome) override {
    ReleaseHeld();
    if (!outcome.result.status.ok()) log_->error("{}", FailureText(outcome));
    console_->Line(Console::Stream::kOut, ToLine(OutcomeJson(outcome)));
  }

 private:
  void Keep(const OutputJson& object) {
    if (holds_back_) {
      held_.push_back(ToLine(object));
    } else {
      console_->Line(Console::Stream::kOut, ToLine(object));
    }
  }

  void ReleaseHeld() {
    holds_back_ = false;
    for (const std::string& line : held_) console_->Line(Console::Stream::kOut, line);
    held_.clear();
  }

  Console* const console_;
  spdlog::logger* const log_;
  bool holds_back_;
  std::vector<std::string> held_;
};

class TextReporter final : public Reporter {
 public:
  TextReporter(Console* console, spdlog::logger* log, bool terminal)
      : console_(console), log_(log), terminal_(terminal) {}

  void Started(const std::string& migration_id) override {
    console_->Line(Console::Stream::kError, fmt::format("migration {}", migration_id));
  }

  void Listening(const std::string& address, const OutputJson&) override {
    console_->Line(Console::Stream::kError, fmt::format("listening on {}", address));
  }

  void PhaseChanged(Phase phase, const std::string& migration_id, uint64_t elapsed_us) override {
    if (phase == Phase::kCompleted || phase == Phase::kFailed) return;
    if (terminal_) {
      console_->Progress(PhaseSentence(phase));
      return;
    }
    std::string id = migration_id.empty() ? "" : fmt::format(" [{}]", migration_id);
    console_->Line(Console::Stream::kError,
                   fmt::format("{}: {}{}", FormatDuration(elapsed_us), PhaseSentence(phase), id));
  }

  void Progressed(const ProgressSnapshot& snapshot) override {
    estimator_.Add(snapshot);
    if (terminal_) console_->Progress(ProgressLine(snapshot, estimator_));
  }

  void Noticed(const std::string& text) override { log_->warn("{}", text); }

  void Ended(const Outcome& outcome) override {
    if (terminal_) console_->Progress("");
    if (outcome.result.status.ok()) {
      console_->Line(Console::Stream::kOut, Summary(outcome));
    } else {
      log_->error("{}", FailureText(outcome));
    }
  }

 private:
  Console* const console_;
  spdlog::logger* const log_;
  const bool terminal_;
  ProgressEstimator estimator_;
};

}  // namespace

std::unique_ptr<Reporter> MakeJsonReporter(Console* console, spdlog::logger* log, Role role) {
  return std::make_unique<JsonReporter>(console, log, role);
}

std::unique_ptr<Reporter> MakeTextReporter(Console* console, spdlog::logger* log, bool terminal) {
  return std::make_unique<TextReporter>(console, log, terminal);
}

std::shared_ptr<spdlog::logger> MakeLogger(Console* console) {
  auto logger =
      std::make_shared<spdlog::logger>("faultline", std::make_shared<ConsoleSink>(console));
  // The console ends its lines itself.
  logger->set_formatter(std::make_unique<spdlog::pattern_formatter>(
      "faultline: %l: %v", spdlog::pattern_time_type::local, ""));
  return logger;
}

}  // namespace faultline
