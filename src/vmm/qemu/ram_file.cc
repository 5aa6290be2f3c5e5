#include "vmm/qemu/ram_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "base/text.h"
#include "vmm/qemu/qemu_text.h"

namespace faultline {
namespace {

// Where `fd`'s file begins in QEMU's mapping; nothing if QEMU does not map it shared.
std::optional<uint64_t> MappedAt(int fd, uint64_t offset,
                                 const std::vector<ProcessMapping>& mappings) {
  struct stat info {};
  if (fstat(fd, &info) < 0) return {};
  for (const ProcessMapping& mapping : mappings) {
    if (mapping.shared && mapping.device == info.st_dev && mapping.inode == info.st_ino &&
        mapping.offset == offset) {
      return mapping.start;
    }
  }
  return {};
}

FileDescriptor OpenFile(const std::string& path, bool writable) {
  FileDescriptor fd(open(path.c_str(), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK));
  struct stat info {};
  if (fd.valid() && (fstat(fd.get(), &info) < 0 || !S_ISREG(info.st_mode))) {
    fd.Reset();
    errno = EISDIR;
  }
  return fd;
}

// QEMU makes an unlinked file where mem-path is a directory; it keeps that file open.
FileDescriptor OpenThroughProcess(const MigratedBlock& block,
                                  const std::vector<ProcessMapping>& mappings, int pid,
                                  bool writable, uint64_t* host_address) {
  std::error_code error;
  std::string folder = fmt::format("/proc/{}/fd", pid);
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    std::error_code link_error;
    std::string target = std::filesystem::read_symlink(entry.path(), link_error).string();
    std::string name = target.substr(0, target.rfind(" (deleted)"));
    if (link_error || !name.starts_with(block.backend.mem_path)) continue;
    FileDescriptor fd = OpenFile(entry.path().string(), writable);
    struct stat info {};
    if (!fd.valid() || fstat(fd.get(), &info) < 0) continue;
    std::optional<uint64_t> address = MappedAt(fd.get(), block.backend.offset_bytes, mappings);
    if (!address) continue;
    // Two blocks may have files in the same folder: QEMU may tell where each is, else their sizes.
    bool same = block.block.host_address != 0
                    ? block.block.host_address == *address
                    : static_cast<uint64_t>(info.st_size) == block.block.total_bytes;
    if (!same) continue;
    *host_address = *address;
    return fd;
  }
  return FileDescriptor();
}

absl::Status ReadFileSystem(int pid, const std::string& path, RamFile* file) {
  struct statfs fs {};
  struct stat info {};
  if (fstatfs(file->fd.get(), &fs) < 0 || fstat(file->fd.get(), &info) < 0) {
    return ErrnoStatus(errno, fmt::format("look at the RAM file '{}'", path));
  }
  if (fs.f_type == TMPFS_MAGIC) file->file_system = FileSystem::kTmpfs;
  if (fs.f_type == HUGETLBFS_MAGIC) file->file_system = FileSystem::kHugetlbfs;
  for (const std::string& table :
       {fmt::format("/proc/{}/mountinfo", pid), std::string("/proc/self/mountinfo")}) {
    absl::StatusOr<std::string> text = ReadTextFile(table);
    if (!text.ok() || !file->mount_options.empty()) continue;
    file->mount_options = ParseMountOptions(*text, info.st_dev);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RamFile> OpenRamFile(const MigratedBlock& block,
                                    const std::vector<ProcessMapping>& mappings, int pid,
                                    bool writable) {
  const std::string& path = block.backend.mem_path;
  RamFile file;
  file.fd = OpenFile(path, writable);
  int error = errno;
  std::optional<uint64_t> address;
  if (file.fd.valid()) address = MappedAt(file.fd.get(), block.backend.offset_bytes, mappings);
  bool trusted = address.has_value() || mappings.empty();
  if (!file.fd.valid() || !trusted) {
    uint64_t found_at = 0;
    FileDescriptor found = OpenThroughProcess(block, mappings, pid, writable, &found_at);
    if (found.valid()) {
      file.fd = std::move(found);
      address = found_at;
    } else if (!file.fd.valid()) {
      return Annotate(
          ErrnoStatus(error, fmt::format("open the RAM file '{}' of '{}'", path, block.backend.id)),
          "cannot reach the VM's memory; run this command as root or as QEMU's user");
    } else {
      return absl::FailedPreconditionError(fmt::format(
          "the RAM file '{}' of '{}' is not the one that QEMU (process {}) has mapped: it was "
          "replaced after QEMU started, or another process listens at the monitor for QEMU; start "
          "the VM with a RAM file that stays in its place",
          path, block.backend.id, pid));
    }
  }
  file.host_address = address.value_or(block.block.host_address);
  RETURN_IF_ERROR(ReadFileSystem(pid, path, &file));
  return file;
}

}  // namespace faultline
