// How a running command tells its story: to a person at a terminal, to a log, to a program.
//
// Called from one thread at a time. Nothing here waits (console.h).
#ifndef FAULTLINE_CLI_REPORTER_H_
#define FAULTLINE_CLI_REPORTER_H_

#include <memory>
#include <string>

#include "cli/console.h"
#include "cli/report_json.h"
#include "cli/report_text.h"

namespace spdlog {
class logger;
}

namespace faultline {

class Reporter {
 public:
  virtual ~Reporter() = default;
  // Source: the migration's id, known from the start.
  virtual void Started(const std::string& migration_id) = 0;
  // Destination: it accepts a source now. `extra` is added to the JSON object.
  virtual void Listening(const std::string& address, const OutputJson& extra) = 0;
  virtual void PhaseChanged(Phase phase, const std::string& migration_id, uint64_t elapsed_us) = 0;
  virtual void Progressed(const ProgressSnapshot& snapshot) = 0;
  virtual void Noticed(const std::string& text) = 0;
  virtual void Ended(const Outcome& outcome) = 0;
};

// Objects on stdout, one a line. A destination's first one is "listening": what comes before it is
// kept back, and shown if the command fails without ever listening.
std::unique_ptr<Reporter> MakeJsonReporter(Console* console, spdlog::logger* log, Role role);
// A progress line on stderr if `terminal`, else a line at every change of phase; the summary on
// stdout.
std::unique_ptr<Reporter> MakeTextReporter(Console* console, spdlog::logger* log, bool terminal);

// Log lines to stderr through the console, so that they and the progress line do not mix.
std::shared_ptr<spdlog::logger> MakeLogger(Console* console);

}  // namespace faultline

#endif  // FAULTLINE_CLI_REPORTER_H_
