// Who on this host has a RAM file mapped or open.
#ifndef FAULTLINE_MEMORY_RAM_FILE_USERS_H_
#define FAULTLINE_MEMORY_RAM_FILE_USERS_H_

#include <sys/types.h>

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace faultline {

struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  friend auto operator<=>(const FileIdentity&, const FileIdentity&) = default;
};

absl::StatusOr<FileIdentity> IdentityOf(int file);

struct FileUser {
  int process_id = 0;
  std::string command;  // "qemu-system-x86"
  size_t file = 0;      // which one: its place among those asked for
  bool mapped = false;  // false: open only
};

struct FileUsers {
  std::vector<FileUser> users;
  // Processes that this one may not look into (another user's). Init does not count.
  int hidden_process_count = 0;
};

// Looks through every process of /proc. A process that ends meanwhile is left out. Milliseconds.
absl::StatusOr<FileUsers> FindFileUsers(std::span<const FileIdentity> files);

// Whether that process has the file mapped so that it can change it for all others. False if this
// process may not look.
bool MapsForWriting(int process_id, const FileIdentity& file);

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_RAM_FILE_USERS_H_
