#include "transport/rdma/rdma_tuning.h"

#include <fmt/format.h>

#include <charconv>

namespace faultline {
namespace {

absl::Status Bad(std::string_view item, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format(
      "'{}' {}; what may be given, with commas between: device=NAME, port=1 to 255, gid=0 to 255, "
      "sl=0 to 15, tos=0 to 255, mtu=256, 512, 1024, 2048 or 4096, retries=0 to 7, timeout=1 to 31 "
      "(4 us times two to the power of it), fallback=on or off, bulk=read or write",
      item, why));
}

// False: `text` is no number from `min` to `max`.
bool ParseNumber(std::string_view text, unsigned min, unsigned max, unsigned* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && *value >= min && *value <= max;
}

absl::Status Take(std::string_view item, RdmaTuning* tuning) {
  const size_t sign = item.find('=');
  if (sign == std::string_view::npos) return Bad(item, "has no '='");
  const std::string_view name = item.substr(0, sign);
  const std::string_view value = item.substr(sign + 1);
  unsigned number = 0;
  const auto in = [&](unsigned min, unsigned max) { return ParseNumber(value, min, max, &number); };
  bool good = true;
  if (name == "device") {
    good = !value.empty() && value.find('/') == std::string_view::npos;
    tuning->device = value;
  } else if (name == "fallback") {
    good = value == "on" || value == "off";
    tuning->fall_back = value == "on";
  } else if (name == "bulk") {
    good = value == "read" || value == "write";
    tuning->bulk = value == "write" ? RdmaBulk::kWrite : RdmaBulk::kRead;
  } else if (name == "mtu") {
    good = in(256, 4096) && (number & (number - 1)) == 0;
    tuning->mtu_bytes = number;
  } else if (name == "port") {
    good = in(1, 255);
    tuning->port = static_cast<uint8_t>(number);
  } else if (name == "gid") {
    good = in(0, 255);
    tuning->gid_index = static_cast<uint8_t>(number);
  } else if (name == "sl") {
    good = in(0, 15);
    tuning->service_level = static_cast<uint8_t>(number);
  } else if (name == "tos") {
    good = in(0, 255);
    tuning->type_of_service = static_cast<uint8_t>(number);
  } else if (name == "retries") {
    good = in(0, 7);
    tuning->retries = static_cast<uint8_t>(number);
  } else if (name == "timeout") {
    good = in(1, 31);
    tuning->ack_timeout = static_cast<uint8_t>(number);
  } else {
    return Bad(item, "is not known");
  }
  return good ? absl::OkStatus() : Bad(item, "has no value that is allowed");
}

}  // namespace

absl::StatusOr<RdmaTuning> ParseRdmaTuning(std::string_view text) {
  RdmaTuning tuning;
  while (!text.empty()) {
    const size_t comma = text.find(',');
    RETURN_IF_ERROR(Take(text.substr(0, comma), &tuning));
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
  }
  if (tuning.device.empty() && (tuning.gid_index.has_value() || tuning.port != 0)) {
    return Bad("port and gid", "belong to a device, and none is named");
  }
  return tuning;
}

}  // namespace faultline
