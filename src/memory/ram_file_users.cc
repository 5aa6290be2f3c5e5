#include "memory/ram_file_users.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <string_view>

#include "base/text.h"

namespace faultline {
namespace {

constexpr int kInitProcess = 1;

enum class Sight { kSeen, kHidden, kEnded };

struct DirectoryCloser {
  void operator()(DIR* directory) const { closedir(directory); }
};
using Directory = std::unique_ptr<DIR, DirectoryCloser>;

Sight SightOf(int error_number) {
  return error_number == EACCES || error_number == EPERM ? Sight::kHidden : Sight::kEnded;
}

// Two regions may lie in one file.
void Mark(std::span<const FileIdentity> files, const FileIdentity& file, std::vector<bool>* found) {
  for (size_t i = 0; i < files.size(); ++i) {
    if (files[i] == file) (*found)[i] = true;
  }
}

// Reads /proc/PID/maps: "address perms offset major:minor inode path".
Sight ForEachMapped(
    int process_id,
    const std::function<void(const FileIdentity& file, std::string_view permissions)>& visit) {
  errno = 0;
  std::ifstream maps(fmt::format("/proc/{}/maps", process_id));
  if (!maps.is_open()) return SightOf(errno);
  std::string line;
  while (std::getline(maps, line)) {
    char permissions[5] = {};
    unsigned device_major = 0;
    unsigned device_minor = 0;
    unsigned long long inode = 0;
    if (std::sscanf(line.c_str(), "%*s %4s %*s %x:%x %llu", permissions, &device_major,
                    &device_minor, &inode) != 4 ||
        inode == 0) {
      continue;
    }
    visit({makedev(device_major, device_minor), static_cast<ino_t>(inode)}, permissions);
  }
  return Sight::kSeen;
}

Sight FindMapped(int process_id, std::span<const FileIdentity> files, std::vector<bool>* found) {
  return ForEachMapped(
      process_id, [&](const FileIdentity& file, std::string_view) { Mark(files, file, found); });
}

Sight FindOpen(int process_id, std::span<const FileIdentity> files, std::vector<bool>* found) {
  std::string path = fmt::format("/proc/{}/fd", process_id);
  Directory directory(opendir(path.c_str()));
  if (directory == nullptr) return SightOf(errno);
  while (dirent* entry = readdir(directory.get())) {
    struct stat info;
    if (fstatat(dirfd(directory.get()), entry->d_name, &info, 0) < 0) continue;
    if (S_ISREG(info.st_mode)) Mark(files, {info.st_dev, info.st_ino}, found);
  }
  return Sight::kSeen;
}

std::string CommandOf(int process_id) {
  absl::StatusOr<std::string> name = ReadTextFile(fmt::format("/proc/{}/comm", process_id));
  if (!name.ok()) return "?";
  while (!name->empty() && name->back() == '\n') name->pop_back();
  return *std::move(name);
}

void Inspect(int process_id, std::span<const FileIdentity> files, FileUsers* result) {
  std::vector<bool> mapped(files.size());
  std::vector<bool> open(files.size());
  Sight maps_sight = FindMapped(process_id, files, &mapped);
  Sight open_sight = FindOpen(process_id, files, &open);
  bool hidden = maps_sight == Sight::kHidden || open_sight == Sight::kHidden;
  // Init, which some hosts protect even from root, runs no VM.
  if (hidden && process_id != kInitProcess) ++result->hidden_process_count;
  for (size_t i = 0; i < files.size(); ++i) {
    if (mapped[i] || open[i]) {
      result->users.push_back({process_id, CommandOf(process_id), i, mapped[i]});
    }
  }
}

}  // namespace

absl::StatusOr<FileIdentity> IdentityOf(int file) {
  struct stat info;
  if (fstat(file, &info) < 0) return ErrnoStatus(errno, "stat a RAM file");
  return FileIdentity{info.st_dev, info.st_ino};
}

bool MapsForWriting(int process_id, const FileIdentity& file) {
  bool found = false;
  ForEachMapped(process_id, [&](const FileIdentity& mapped, std::string_view permissions) {
    found = found || (mapped == file && permissions.at(1) == 'w' && permissions.at(3) == 's');
  });
  return found;
}

absl::StatusOr<FileUsers> FindFileUsers(std::span<const FileIdentity> files) {
  Directory proc(opendir("/proc"));
  if (proc == nullptr) return ErrnoStatus(errno, "list the processes in /proc");
  FileUsers result;
  while (dirent* entry = readdir(proc.get())) {
    std::string_view name = entry->d_name;
    int process_id = 0;
    auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), process_id);
    if (error == std::errc() && end == name.data() + name.size()) {
      Inspect(process_id, files, &result);
    }
  }
  return result;
}

}  // namespace faultline
