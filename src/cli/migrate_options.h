// The options of `faultline migrate`.
#ifndef FAULTLINE_CLI_MIGRATE_OPTIONS_H_
#define FAULTLINE_CLI_MIGRATE_OPTIONS_H_

#include "cli/migrate_command.h"

namespace CLI {
class App;
}

namespace faultline {

// Adds the subcommand; what is parsed goes into `options`, which outlives it.
CLI::App* AddMigrate(CLI::App* app, MigrateCommand* options);

}  // namespace faultline

#endif  // FAULTLINE_CLI_MIGRATE_OPTIONS_H_
