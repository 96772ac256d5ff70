// shape: another grader's score on another scale.
//
//   grader     the grader: {type: length, max: 200, ramp: 100}
//   mean, std  standardise with known figures: (score - mean) / std; defaults 0 and 1
//   scale, offset   then scale * x + offset; defaults 1 and 0
//   min, max   then clip to [min, max]; default: no bound
//   at_least   given: 1 where the result is at least this, else 0
// Sub-score: raw, and those of the grader as raw/NAME. Standardising by the figures of the group is the advantage's work.
// Example: `repetition` with offset -1 is Open-R1's penalty with max_penalty -1: 0 without repetition, down to -1.

#include <algorithm>
#include <limits>
#include <optional>

#include "absl/strings/str_cat.h"
#include "graders/composite_grader.h"
#include "rft/core/status_macros.h"

namespace rft {
namespace {

struct Shaping {
  double mean = 0.0, std = 1.0, scale = 1.0, offset = 0.0;
  double min = std::numeric_limits<double>::lowest(), max = std::numeric_limits<double>::max();
  std::optional<double> at_least;

  double operator()(double score) const {
    const double value = std::clamp(scale * ((score - mean) / std) + offset, min, max);
    if (at_least.has_value()) return value >= *at_least ? 1.0 : 0.0;
    return value;
  }
};

struct Shape {
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    GraderSpec wrapped = spec;  // the one grader as a map of one
    if (auto it = wrapped.params.find("grader"); it != wrapped.params.end())
      it->second = absl::StrCat("{\"raw\": ", it->second, "}");
    ParamReader params(wrapped);
    std::vector<GraderPart> parts;
    if (params.Has("grader")) {
      parts = ReadGraderParts(params, wrapped, "grader");
    } else {
      params.AddError("grader", "required, as {type: ..., its keys}");
    }
    Shaping shaping;
    shaping.mean = params.Double("mean", 0.0);
    shaping.std = params.Double("std", 1.0, 1e-12);
    shaping.scale = params.Double("scale", 1.0);
    shaping.offset = params.Double("offset", 0.0);
    shaping.min = params.Double("min", shaping.min);
    shaping.max = params.Double("max", shaping.max);
    if (params.Has("at_least")) shaping.at_least = params.Double("at_least", 0.0);
    if (shaping.min > shaping.max) params.AddError("min", "is greater than max");
    RFT_RETURN_IF_ERROR(params.Finish());
    return MakeCompositeGrader(
        std::move(parts), [shaping](const std::vector<NamedGrade>& grades) -> Grade {
          std::variant<PartScores, Grade> collected = CollectPartScores(grades);
          if (Grade* instead = std::get_if<Grade>(&collected)) return std::move(*instead);
          auto& [by_part, score] = std::get<PartScores>(collected);
          score.value = shaping(by_part.at("raw"));
          return std::move(score);
        });
  }
};

}  // namespace

RFT_REGISTER_GRADER("shape", Shape);

}  // namespace rft
