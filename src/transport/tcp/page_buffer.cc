#include "transport/tcp/page_buffer.h"

#include <sys/mman.h>

namespace faultline {

PageBuffer::~PageBuffer() {
  if (data_ != nullptr) munmap(data_, size_);
}

bool PageBuffer::Reserve(size_t bytes) {
  if (bytes <= size_) return true;
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return false;
  if (data_ != nullptr) munmap(data_, size_);
  data_ = static_cast<std::byte*>(memory);
  size_ = bytes;
  return true;
}

}  // namespace faultline
