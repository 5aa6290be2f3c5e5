#include "experiments/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/json_text.h"

namespace faultline::bench::experiments {
namespace {

constexpr char kSameForBoth[] = "start both sides with the same options and the same sweep file";

// FNV-1a, 64 bits: two plans that differ by mistake.
uint64_t DigestOf(const std::vector<Parameter>& parameters, const Plan& plan) {
  uint64_t digest = 0xcbf29ce484222325u;
  auto add = [&digest](const std::string& text) {
    for (const char byte : text) {
      digest = (digest ^ static_cast<unsigned char>(byte)) * 0x100000001b3u;
    }
  };
  for (const Point& point : plan.points) add(ToJson(parameters, point).dump());
  add(fmt::format("x{}", plan.repeats));
  return digest;
}

absl::StatusOr<uint64_t> ReadRepeats(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto repeats = value.get<uint64_t>();
    if (repeats >= 1 && repeats <= kStepsMax) return repeats;
  }
  return absl::InvalidArgumentError(
      fmt::format("repeats: give one whole number from 1 to {}", kStepsMax));
}

// `points`, each with every value of `list`.
absl::StatusOr<std::vector<Point>> Multiply(const std::vector<Parameter>& parameters,
                                            const std::vector<Point>& points,
                                            const std::string& name, const Json& list) {
  if (list.empty()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: the list is empty; give a value, or leave it out", name));
  }
  if (points.size() > kStepsMax / list.size()) {
    return absl::InvalidArgumentError(
        fmt::format("{}: these are more than {} points", name, kStepsMax));
  }
  std::vector<Point> more;
  for (const Point& point : points) {
    for (const Json& value : list) {
      more.push_back(point);
      RETURN_IF_ERROR(SetParameter(parameters, name, value, &more.back()));
    }
  }
  return more;
}

absl::StatusOr<Json> ReadObject(const std::string& text) {
  Json object = ParseJson<Json>(text);
  if (object.is_object()) return object;
  return absl::InvalidArgumentError(
      "this is no JSON object; give one such as {\"threads\": [1, 2, 4], \"repeats\": 5}");
}

}  // namespace

absl::StatusOr<Plan> MakePlan(const std::vector<Parameter>& parameters, const Point& base,
                              uint64_t repeats, const std::optional<std::string>& sweep) {
  Plan plan{{base}, repeats};
  if (sweep.has_value()) {
    ASSIGN_OR_RETURN(const Json object, ReadObject(*sweep));
    for (const auto& [name, value] : object.items()) {
      if (name == "repeats") {
        ASSIGN_OR_RETURN(plan.repeats, ReadRepeats(value));
        continue;
      }
      const Json list = value.is_array() ? value : Json::array({value});
      ASSIGN_OR_RETURN(plan.points, Multiply(parameters, plan.points, name, list));
    }
  }
  if (plan.points.size() > kStepsMax / plan.repeats) {
    return absl::InvalidArgumentError(
        fmt::format("these are more than {} points with their repeats", kStepsMax));
  }
  for (const Point& point : plan.points) RETURN_IF_ERROR(CheckPoint(point));
  return plan;
}

std::vector<Point> OneOfEachTransport(const Plan& plan) {
  std::vector<Point> found;
  for (const Point& point : plan.points) {
    const bool is_known = std::any_of(found.begin(), found.end(), [&point](const Point& other) {
      return other.transport == point.transport;
    });
    if (!is_known) found.push_back(point);
  }
  return found;
}

std::string Farewell(const std::vector<Parameter>& parameters, const Plan& plan, size_t step,
                     std::optional<double> operations_per_100_ms) {
  Json object = {{"plan", DigestOf(parameters, plan)},
                 {"steps", plan.steps()},
                 {"step", step},
                 {"parameters", ToJson(parameters, plan.PointOf(step))}};
  if (operations_per_100_ms.has_value()) {
    object["guest_operations_per_100_ms"] = *operations_per_100_ms;
  }
  return object.dump();
}

absl::StatusOr<std::optional<double>> ReadFarewell(const std::vector<Parameter>& parameters,
                                                   const Plan& plan, size_t step,
                                                   const std::string& farewell) {
  const Json theirs = ParseJson<Json>(farewell);
  // What came from a peer may be anything.
  const Json values = theirs.is_object() ? theirs.value("parameters", Json()) : Json();
  if (!values.is_object() || !theirs.contains("plan")) {
    return absl::FailedPreconditionError(
        "the source's guest is none of faultline-bench of this release; start the same program on "
        "both sides");
  }
  const Json mine = Json::parse(Farewell(parameters, plan, step, std::nullopt));
  for (const auto& [name, value] : mine["parameters"].items()) {
    const Json other = values.value(name, Json());
    if (other == value) continue;
    return absl::FailedPreconditionError(
        fmt::format("the plans differ: {} is {} here and {} on "
                    "the source; {}",
                    name, value.dump(), other.dump(), kSameForBoth));
  }
  for (const char* name : {"steps", "step"}) {
    const Json other = theirs.value(name, Json());
    if (other == mine[name]) continue;
    return absl::FailedPreconditionError(fmt::format(
        "the plans differ: {} is {} here and {} on the source (repeats count, the first step is "
        "0); {}",
        name, mine[name].dump(), other.dump(), kSameForBoth));
  }
  if (theirs["plan"] != mine["plan"]) {
    return absl::FailedPreconditionError(
        fmt::format("the plans differ at another point than this one; {}", kSameForBoth));
  }
  const Json speed = theirs.value("guest_operations_per_100_ms", Json());
  return speed.is_number() ? std::optional<double>(speed.get<double>()) : std::nullopt;
}

}  // namespace faultline::bench::experiments
