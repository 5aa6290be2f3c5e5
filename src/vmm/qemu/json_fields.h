// Reading JSON from QEMU without exceptions: what is absent or of another type has a default.
#ifndef FAULTLINE_VMM_QEMU_JSON_FIELDS_H_
#define FAULTLINE_VMM_QEMU_JSON_FIELDS_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

namespace faultline {

using Json = nlohmann::json;

// The member `key` of `object`, or null.
inline const Json& JsonMember(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

inline std::string JsonText(const Json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}
inline std::string JsonText(const Json& object, const char* key) {
  return JsonText(JsonMember(object, key));
}

inline uint64_t JsonNumber(const Json& value) {
  return value.is_number_unsigned() ? value.get<uint64_t>() : 0;
}
inline uint64_t JsonNumber(const Json& object, const char* key) {
  return JsonNumber(JsonMember(object, key));
}

inline bool JsonFlag(const Json& value) { return value.is_boolean() && value.get<bool>(); }
inline bool JsonFlag(const Json& object, const char* key) {
  return JsonFlag(JsonMember(object, key));
}

}  // namespace faultline

#endif  // FAULTLINE_VMM_QEMU_JSON_FIELDS_H_
