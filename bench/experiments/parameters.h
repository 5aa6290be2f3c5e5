// The parameters of a point by name: of options, of sweep files and of results.
#ifndef FAULTLINE_BENCH_EXPERIMENTS_PARAMETERS_H_
#define FAULTLINE_BENCH_EXPERIMENTS_PARAMETERS_H_

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "experiments/point.h"

namespace faultline::bench::experiments {

// Fields stay in the order in which they were written.
using Json = nlohmann::ordered_json;

struct Parameter {
  std::string name;    // in a sweep file; as an option with '-' for '_'
  std::string field;   // in results: the name, with the unit if it has none
  std::string values;  // for people: "1..1024"
  std::string help;
  std::function<absl::Status(const Json& value, Point* point)> set;
  std::function<Json(const Point& point)> get;
};

// All there are, in the order of results.
std::vector<Parameter> MakeParameters();

// Sets one of `parameters`. InvalidArgument says which values there are, or which names.
absl::Status SetParameter(const std::vector<Parameter>& parameters, const std::string& name,
                          const Json& value, Point* point);
// The value that a word of the command line stands for: a number, true, false, or a text.
Json ValueOf(const std::string& word);
// An object with a field for each parameter.
Json ToJson(const std::vector<Parameter>& parameters, const Point& point);
// Whether its parameters make sense together.
absl::Status CheckPoint(const Point& point);

}  // namespace faultline::bench::experiments

#endif  // FAULTLINE_BENCH_EXPERIMENTS_PARAMETERS_H_
