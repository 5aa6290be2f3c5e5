// This process's page tables, as /proc/self/pagemap tells them.
#ifndef FAULTLINE_TRANSPORT_RDMA_PAGE_TABLES_H_
#define FAULTLINE_TRANSPORT_RDMA_PAGE_TABLES_H_

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"

namespace faultline {

// Which of the host's pages in `bytes`, which begin at a page, are in the page tables.
inline absl::StatusOr<std::vector<bool>> ReadPresent(int page_tables,
                                                     std::span<const std::byte> bytes) {
  constexpr uint64_t kPresent = uint64_t{1} << 63;  // Documentation/admin-guide/mm/pagemap.rst
  const auto page_bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  std::vector<uint64_t> entries((bytes.size() + page_bytes - 1) / page_bytes);
  const size_t size = entries.size() * sizeof(uint64_t);
  const auto begin = reinterpret_cast<uint64_t>(bytes.data()) / page_bytes;
  if (pread(page_tables, entries.data(), size, static_cast<off_t>(begin * sizeof(uint64_t))) !=
      static_cast<ssize_t>(size)) {
    return ErrnoStatus(errno, "read this process's page tables");
  }
  std::vector<bool> present;
  present.reserve(entries.size());
  for (const uint64_t entry : entries) present.push_back((entry & kPresent) != 0);
  return present;
}

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_RDMA_PAGE_TABLES_H_
