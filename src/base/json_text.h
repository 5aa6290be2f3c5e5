// Reading JSON that another process or a file has written.
#ifndef FAULTLINE_BASE_JSON_TEXT_H_
#define FAULTLINE_BASE_JSON_TEXT_H_

#include <string>

namespace faultline {

// Deeper values are refused: copying and printing one goes as deep into the stack as it is nested.
inline constexpr int kJsonDepthMax = 64;

// `text` as a Json (a nlohmann::basic_json), or a discarded value (is_discarded) if it is no JSON
// or nested too deep. Never throws. Any thread.
template <typename Json>
Json ParseJson(const std::string& text) {
  bool too_deep = false;
  Json value = Json::parse(
      text,
      [&too_deep](int depth, typename Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kJsonDepthMax;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  return too_deep ? Json(Json::value_t::discarded) : value;
}

}  // namespace faultline

#endif  // FAULTLINE_BASE_JSON_TEXT_H_
