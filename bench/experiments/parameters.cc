#include "experiments/parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <utility>

#include "base/json_text.h"
#include "base/text.h"
#include "prefetch/push_orders.h"

namespace faultline::bench::experiments {
namespace {

absl::Status Refusal(const std::string& name, const Json& value, const std::string& values) {
  return absl::InvalidArgumentError(
      fmt::format("{}: {} is not possible; give {}", name,
                  value.dump(-1, ' ', false, Json::error_handler_t::replace), values));
}

// A parameter but for its set, which refuses with `values`.
template <typename Take, typename Get>
Parameter Make(std::string name, std::string values, std::string help, Take take, Get get) {
  Parameter parameter{name, name, values, std::move(help), {}, std::move(get)};
  parameter.set = [name, values, take = std::move(take)](const Json& value, Point* point) {
    return take(value, point) ? absl::OkStatus() : Refusal(name, value, values);
  };
  return parameter;
}

template <typename T>
Parameter Number(const char* name, T Point::*field, T min, T max, const char* help) {
  auto take = [field, min, max](const Json& value, Point* point) {
    if (!value.is_number_integer()) return false;
    // Above what a signed number holds, and negative for an unsigned one: neither is in any range.
    if (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{INT64_MAX}) return false;
    const auto number = value.get<int64_t>();
    if (number < static_cast<int64_t>(min) || number > static_cast<int64_t>(max)) return false;
    point->*field = static_cast<T>(number);
    return true;
  };
  return Make(name, fmt::format("a whole number from {} to {}", min, max), help, take,
              [field](const Point& point) { return Json(point.*field); });
}

Parameter Real(const char* name, double Point::*field, double above, double max, const char* help) {
  auto take = [field, above, max](const Json& value, Point* point) {
    if (!value.is_number() || !(value.get<double>() > above) || value.get<double>() > max) {
      return false;
    }
    point->*field = value.get<double>();
    return true;
  };
  return Make(name, fmt::format("a number above {} up to {}", above, max), help, take,
              [field](const Point& point) { return Json(point.*field); });
}

Parameter ShareFromZero(const char* name, double Point::*field, const char* help) {
  auto take = [field](const Json& value, Point* point) {
    if (!value.is_number() || !(value.get<double>() >= 0) || value.get<double>() > 1) return false;
    point->*field = value.get<double>();
    return true;
  };
  return Make(name, "a number from 0 to 1", help, take,
              [field](const Point& point) { return Json(point.*field); });
}

Parameter Choice(const char* name, std::string Point::*field, std::vector<std::string> choices,
                 const char* help) {
  auto take = [field, choices](const Json& value, Point* point) {
    for (const std::string& choice : choices) {
      if (value != choice) continue;
      point->*field = choice;
      return true;
    }
    return false;
  };
  return Make(name, fmt::format("{}", fmt::join(choices, "|")), help, take,
              [field](const Point& point) { return Json(point.*field); });
}

std::optional<bool> SwitchOf(const Json& value) {
  if (value == "on" || value == true) return true;
  if (value == "off" || value == false) return false;
  return std::nullopt;
}

Parameter Switch(const char* name, bool Point::*field, const char* help) {
  auto take = [field](const Json& value, Point* point) {
    const std::optional<bool> on = SwitchOf(value);
    if (on.has_value()) point->*field = *on;
    return on.has_value();
  };
  return Make(name, "on|off", help, take,
              [field](const Point& point) { return Json(point.*field); });
}

Parameter Bandwidth() {
  auto take = [](const Json& value, Point* point) {
    uint64_t& rate = point->bandwidth_bytes_per_second;
    rate = 0;
    if (value == "none" || value == 0) return true;
    const absl::StatusOr<uint64_t> parsed =
        ParseRate(value.is_string() ? value.get<std::string>() : value.dump());
    if (parsed.ok()) rate = *parsed;
    return parsed.ok();
  };
  Parameter parameter =
      Make("bandwidth", "none, or a rate: 500M, 100MiB, 1Gbit", "limit of what is pushed", take,
           [](const Point& point) { return Json(point.bandwidth_bytes_per_second); });
  parameter.field = "bandwidth_bytes_per_second";
  return parameter;
}

Parameter Integrity() {
  auto take = [](const Json& value, Point* point) {
    const std::optional<bool> on = SwitchOf(value);
    if (!on.has_value() && value != "auto") return false;
    point->integrity = IntegrityWish::kDefault;
    if (on.has_value()) point->integrity = *on ? IntegrityWish::kOn : IntegrityWish::kOff;
    return true;
  };
  return Make("integrity", "auto|on|off",
              "pages are checked end to end; auto: where tcp carries them", take,
              [](const Point& point) {
                if (point.integrity == IntegrityWish::kDefault) return Json("auto");
                return Json(point.integrity == IntegrityWish::kOn);
              });
}

}  // namespace

std::vector<Parameter> MakeParameters() {
  using P = Point;
  return {
      Choice("transport", &P::transport, {"tcp", "rdma"}, "what carries the pages"),
      Number<uint64_t>("memory_mib", &P::memory_mib, 1, 1 << 24, "size of the guest"),
      Real("allocated_share", &P::allocated_share, 0, 1,
           "of the memory: the part that holds data; the rest was never allocated"),
      Real("touched_share", &P::touched_share, 0, 1,
           "of what holds data: the part that the guest works on"),
      Number<uint64_t>("word_repeats", &P::word_repeats, 1, kWordsPerPage,
                       "how often each word of the memory comes in a row: 1 does not pack"),
      Number<int64_t>("threads", &P::threads, 1, 1024, "of the guest; each has its own pages"),
      Choice("pattern", &P::pattern, {"uniform", "zipf", "hotset", "sequential"},
             "which page the guest touches next"),
      Real("zipf_theta", &P::zipf_theta, 0, 10, "zipf: the exponent"),
      Real("hot_memory_share", &P::hot_memory_share, 0, 1, "hotset: of the memory worked on"),
      ShareFromZero("hot_access_share", &P::hot_access_share, "hotset: of the touches"),
      ShareFromZero("write_share", &P::write_share, "of the touches: those that write"),
      Number<int64_t>("think_us", &P::think_us, 0, 10'000'000,
                      "what a thread computes between two touches"),
      Number<uint64_t>("seed", &P::seed, 0, INT64_MAX, "of all that is random"),
      Number<int64_t>("before_ms", &P::before_ms, 0, 3'600'000,
                      "for how long the guest works on the source before it moves"),
      Number<int64_t>("after_ms", &P::after_ms, 0, 3'600'000,
                      "for how long it goes on once all memory is there"),
      Switch("push", &P::push, "off: pages come on demand only"),
      Number<int64_t>("demand_only_ms", &P::demand_only_ms, 1, 3'600'000,
                      "push off: for how long the guest works before it touches all that is still "
                      "missing, so that the migration ends"),
      Choice("push_order", &P::push_order, PushOrderNames(), "what is pushed first"),
      Switch("read_around", &P::read_around, "a fault brings its page's neighbors"),
      Bandwidth(),
      Choice("compression", &P::compression, {"auto", "off", "lz4", "zstd"}, "of what is pushed"),
      Number<int64_t>("poll_us", &P::poll_us, 0, 1'000'000,
                      "how long both demand threads look for more before they sleep"),
      Integrity(),
  };
}

absl::Status SetParameter(const std::vector<Parameter>& parameters, const std::string& name,
                          const Json& value, Point* point) {
  std::vector<std::string> names;
  for (const Parameter& parameter : parameters) {
    if (parameter.name == name) return parameter.set(value, point);
    names.push_back(parameter.name);
  }
  return absl::InvalidArgumentError(
      fmt::format("there is no parameter '{}'; there are: {}", name, fmt::join(names, ", ")));
}

Json ValueOf(const std::string& word) {
  Json value = ParseJson<Json>(word);
  return value.is_number() || value.is_boolean() ? value : Json(word);
}

Json ToJson(const std::vector<Parameter>& parameters, const Point& point) {
  Json object = Json::object();
  for (const Parameter& parameter : parameters) object[parameter.field] = parameter.get(point);
  return object;
}

absl::Status CheckPoint(const Point& point) {
  if (point.touched_pages() >= static_cast<uint64_t>(point.threads)) return absl::OkStatus();
  return absl::InvalidArgumentError(fmt::format(
      "the guest works on {} pages of {} MiB, which is none for each of its {} threads; "
      "raise memory_mib, allocated_share or touched_share",
      point.touched_pages(), point.memory_mib, point.threads));
}

}  // namespace faultline::bench::experiments
