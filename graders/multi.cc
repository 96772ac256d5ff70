// multi: several graders and a formula over their scores, as OpenAI's grader of that name.
//
//   graders            map of name -> grader: {accuracy: {type: number_match}, style: {type: regex_match, pattern: ...}}
//   calculate_output   formula over the names (graders/formula.h): "accuracy * (0.8 + 0.2 * style)"
//
// Each part's score is a sub-score. A part that gives none (abstains, fails, is too late) makes the whole give none.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/composite_grader.h"
#include "graders/formula.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"

namespace rft {
namespace {

void CheckVariables(const Formula& formula, const std::vector<GraderPart>& parts,
                    ParamReader& params) {
  std::vector<std::string> names;
  for (const GraderPart& part : parts) names.push_back(part.name);
  if (formula.variables().empty())
    params.AddError("calculate_output",
                    "uses none of the graders; the score would be the same always");
  for (const std::string& variable : formula.variables()) {
    if (std::find(names.begin(), names.end(), variable) != names.end()) continue;
    const std::optional<std::string> near = DidYouMean(variable, names);
    params.AddError(
        "calculate_output",
        absl::StrCat("there is no grader ", variable, near ? "; did you mean " + *near + "?" : "",
                     " (graders: ", absl::StrJoin(names, ", "), ")"));
  }
}

Grade Calculate(const Formula& formula, const std::vector<NamedGrade>& grades) {
  std::variant<PartScores, Grade> parts = CollectPartScores(grades);
  if (Grade* instead = std::get_if<Grade>(&parts)) return std::move(*instead);
  auto& [by_part, score] = std::get<PartScores>(parts);
  const absl::StatusOr<double> value = formula.Evaluate(by_part);
  if (!value.ok()) return GradeError{absl::StrCat("calculate_output: ", value.status().message())};
  score.value = *value;
  return std::move(score);
}

struct Multi {
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    std::vector<GraderPart> parts = ReadGraderParts(params, spec, "graders");
    absl::StatusOr<Formula> formula = Formula::Parse(params.String("calculate_output", ""));
    if (!params.Has("calculate_output")) {
      params.AddError("calculate_output", "required, as \"0.5 * a + 0.5 * b\"");
    } else if (!formula.ok()) {
      params.AddError("calculate_output", std::string(formula.status().message()));
    } else if (!parts.empty()) {
      CheckVariables(*formula, parts, params);
    }
    RFT_RETURN_IF_ERROR(params.Finish());
    return MakeCompositeGrader(std::move(parts),
                               [formula = *std::move(formula)](std::vector<NamedGrade> grades) {
                                 return Calculate(formula, grades);
                               });
  }
};

}  // namespace

RFT_REGISTER_GRADER("multi", Multi);

}  // namespace rft
