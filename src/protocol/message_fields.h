// What is in each control message's payload. Internal to the codec.
#ifndef FAULTLINE_PROTOCOL_MESSAGE_FIELDS_H_
#define FAULTLINE_PROTOCOL_MESSAGE_FIELDS_H_

#include <cstddef>
#include <span>

#include "base/status.h"
#include "protocol/messages.h"
#include "protocol/wire_bytes.h"

namespace faultline {

void WriteFields(const Message& message, WireWriter& writer);
// The message that is alternative `index` (below the variant's size) of Message; InvalidArgument
// names it by `name`, and the field.
absl::StatusOr<Message> ReadFields(size_t index, const char* name,
                                   std::span<const std::byte> payload);

}  // namespace faultline

#endif  // FAULTLINE_PROTOCOL_MESSAGE_FIELDS_H_
