// Files and folders that are their user's alone, whatever the umask, also where others may write
// beside them. Any thread.
#ifndef FAULTLINE_BASE_PRIVATE_PATH_H_
#define FAULTLINE_BASE_PRIVATE_PATH_H_

#include <sys/types.h>

#include <string>

#include "base/file_descriptor.h"
#include "base/status.h"

namespace faultline {

// Opens the folder `path`, after making it (mode 0700) if it is not there. FailedPrecondition: it
// is a link or no folder, another user's, or its mode has one of the bits `forbidden` (octal, as
// for chmod).
absl::StatusOr<FileDescriptor> OpenOwnFolder(const std::string& path, mode_t forbidden);

// Makes a file of mode 0600 and opens it with `flags` (O_WRONLY, O_APPEND, ...). What had its name
// is removed first, a link and not what it leads to. `folder`: what a relative path begins at.
absl::StatusOr<FileDescriptor> MakePrivateFile(int folder, const std::string& path, int flags);

// Opens a file that is this user's (or root's), that nobody else may write, and no link.
absl::StatusOr<FileDescriptor> OpenOwnFile(const std::string& path, int flags);

// Gives a file that was just made with O_EXCL the mode 0600.
absl::Status MakePrivate(const FileDescriptor& file, const std::string& path);

}  // namespace faultline

#endif  // FAULTLINE_BASE_PRIVATE_PATH_H_
