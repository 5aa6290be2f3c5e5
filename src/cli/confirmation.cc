#include "cli/confirmation.h"

#include <fmt/format.h>
#include <unistd.h>

#include "cli/usage.h"

namespace faultline {

ExitStatus AskForConfirmation(const Confirmation& confirmation, OutputJson fields, bool json) {
  std::string text = fmt::format("faultline: {}. That means:\n", confirmation.summary);
  for (const std::string& consequence : confirmation.consequences) {
    text += fmt::format("  - {};\n", consequence);
  }
  text += fmt::format("Nothing was done. First {}.\n", confirmation.mend);
  (void)!write(STDERR_FILENO, text.data(), text.size());
  if (!json) return ExitStatus::kUsage;
  fields["consequences"] = confirmation.consequences;
  fields["mend"] = confirmation.mend;
  return WriteOut(ToLine(fields) + "\n", ExitStatus::kUsage);
}

}  // namespace faultline
