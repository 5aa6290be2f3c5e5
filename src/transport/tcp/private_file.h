// Files whose content nobody else may know.
#ifndef FAULTLINE_TRANSPORT_TCP_PRIVATE_FILE_H_
#define FAULTLINE_TRANSPORT_TCP_PRIVATE_FILE_H_

#include <string>

#include "base/status.h"

namespace faultline {

// A text that is wiped from memory when it goes.
class SecretText {
 public:
  SecretText() = default;
  explicit SecretText(std::string text) : text_(std::move(text)) {}
  ~SecretText();
  SecretText(SecretText&& other) noexcept : text_(std::move(other.text_)) { other.text_.clear(); }
  SecretText& operator=(SecretText&& other) noexcept {
    text_.swap(other.text_);
    return *this;
  }
  const std::string& get() const { return text_; }

 private:
  std::string text_;
};

// The content of a regular file of at most 1 MiB that is its owner's (this user or root) and at
// most its group's to read. PermissionDenied, with the mend, if anybody else may read or change it.
absl::StatusOr<SecretText> ReadPrivateFile(const std::string& path);

}  // namespace faultline

#endif  // FAULTLINE_TRANSPORT_TCP_PRIVATE_FILE_H_
