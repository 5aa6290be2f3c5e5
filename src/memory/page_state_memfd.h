// The memory of the page-state table: a memfd that the VM's process keeps open, so that the table
// survives this process.
#ifndef FAULTLINE_MEMORY_PAGE_STATE_MEMFD_H_
#define FAULTLINE_MEMORY_PAGE_STATE_MEMFD_H_

#include <memory>

#include "base/file_descriptor.h"
#include "base/status.h"
#include "memory/mapping.h"
#include "pages/page_table.h"

namespace faultline {

// Movable; the table's address stays.
class PageStateMemfd {
 public:
  // A fresh one, every page missing, sealed against a change of its size.
  static absl::StatusOr<PageStateMemfd> Create(const MemoryLayout& layout);
  // The one that an earlier process made. InvalidArgument if it does not belong to `layout`, or
  // could be shrunk under us.
  static absl::StatusOr<PageStateMemfd> Adopt(FileDescriptor memfd, const MemoryLayout& layout);

  const FileDescriptor& memfd() const { return memfd_; }
  PageTable& table() const { return *table_; }

 private:
  PageStateMemfd(FileDescriptor memfd, Mapping mapping, std::unique_ptr<PageTable> table)
      : memfd_(std::move(memfd)), mapping_(std::move(mapping)), table_(std::move(table)) {}

  FileDescriptor memfd_;
  Mapping mapping_;
  std::unique_ptr<PageTable> table_;  // in mapping_
};

}  // namespace faultline

#endif  // FAULTLINE_MEMORY_PAGE_STATE_MEMFD_H_
