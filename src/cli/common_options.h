// Options that several subcommands have. What is parsed goes into the values, which outlive the
// command.
#ifndef FAULTLINE_CLI_COMMON_OPTIONS_H_
#define FAULTLINE_CLI_COMMON_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "assembly/sessions.h"

namespace CLI {
class App;
}

namespace faultline {

void AddRunDirectory(CLI::App* command, std::string* value);
void AddPoll(CLI::App* command, std::optional<int64_t>* value);
void AddHookLibrary(CLI::App* command, std::string* value);
void AddTls(CLI::App* command, TlsChoice* choice);
void AddRdma(CLI::App* command, RdmaChoice* choice);
void AddSandbox(CLI::App* command, std::string* value);
void AddIntegrity(CLI::App* command, std::string* value);
void AddRecoveryTimeout(CLI::App* command, std::string* value);
void AddResume(CLI::App* command, const char* dead, std::string* id, bool* resume);

}  // namespace faultline

#endif  // FAULTLINE_CLI_COMMON_OPTIONS_H_
