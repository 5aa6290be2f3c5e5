// Page-aligned memory for incoming pages.
#ifndef FAULTLINE_TRANSPORT_TCP_PAGE_BUFFER_H_
#define FAULTLINE_TRANSPORT_TCP_PAGE_BUFFER_H_

#include <cstddef>
#include <span>

namespace faultline {

// Grows, never shrinks; the host gives memory only for what is written. One thread.
class PageBuffer {
 public:
  PageBuffer() = default;
  ~PageBuffer();
  PageBuffer(const PageBuffer&) = delete;
  PageBuffer& operator=(const PageBuffer&) = delete;

  // At least `bytes`; what it held is lost if it has to grow. False: the host has no memory.
  bool Reserve(size_t bytes);
  std::byte* data() { return data_; }
  size_t size() const { return size_; }

 private:
  std::byte* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_PAGE_BUFFER_H_
