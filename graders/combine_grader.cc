// combine: several graders, one score.
//
//   graders     map of name -> grader: {right: {type: number_match}, format: {type: tag_format, tags: [think]}}
//   how         mean (default: weighted) | sum (weighted) | min | max | product | gated
//   weights     map of name -> weight, default 1 each; for mean, sum and gated
//   gate        gated: list of names. If each of them scores at least `gate_at_least`, the score is the weighted mean of the
//               others (1 if there are none), else `gate_score`
//   gate_at_least   default 1        gate_score   default 0
// Each part's score is a sub-score. A part that gives none (abstains, fails, is too late) makes the whole give none.
// A formula over the parts: `multi`.

#include <algorithm>
#include <boost/json/object.hpp>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "graders/composite_grader.h"
#include "rft/core/status_macros.h"
#include "rft/core/text.h"
#include "rft/io/json.h"

namespace rft {
namespace {

struct Rule {
  std::string how;
  std::map<std::string, double> weights;  // of every part
  std::set<std::string> gate;
  double gate_at_least = 1.0;
  double gate_score = 0.0;
};

void CheckName(ParamReader& params, std::string_view key, const std::string& name,
               const Rule& rule) {
  if (rule.weights.contains(name)) return;
  std::vector<std::string> known;
  for (const auto& [part, weight] : rule.weights) known.push_back(part);
  const std::optional<std::string> near = DidYouMean(name, known);
  params.AddError(
      key, absl::StrCat("there is no grader ", name, near ? "; did you mean " + *near + "?" : "",
                        " (graders: ", absl::StrJoin(known, ", "), ")"));
}

void ReadWeights(ParamReader& params, Rule* rule) {
  const absl::StatusOr<json::value> map = ParseJson(params.String("weights", "{}"));
  if (!map.ok() || !map->is_object())
    return params.AddError("weights", "must map names to numbers: {NAME: 0.5, ...}");
  for (const auto& member : map->get_object()) {
    const std::string name(member.key());
    const absl::StatusOr<double> weight = ToDouble(member.value());
    if (!member.value().is_number() || !weight.ok()) {
      params.AddError("weights", absl::StrCat(name, " is not a number"));
      continue;
    }
    CheckName(params, "weights", name, *rule);
    rule->weights[name] = *weight;
  }
}

void ReadGate(ParamReader& params, Rule* rule) {
  rule->gate_at_least = params.Double("gate_at_least", 1.0);
  rule->gate_score = params.Double("gate_score", 0.0);
  const bool gated = rule->how == "gated";
  for (const std::string& name : params.Texts(
           "gate", "names", gated ? ParamReader::Need::kRequired : ParamReader::Need::kOptional)) {
    CheckName(params, "gate", name, *rule);
    rule->gate.insert(name);
  }
}

double Combined(const Rule& rule, const std::map<std::string, double>& scores) {
  double sum = 0, weights = 0, product = 1;
  double least = scores.begin()->second, most = least;
  for (const auto& [name, score] : scores) {
    if (rule.gate.contains(name)) {
      if (score < rule.gate_at_least) return rule.gate_score;
      if (rule.how == "gated") continue;
    }
    const double weight = rule.weights.at(name);
    sum += weight * score;
    weights += weight;
    product *= score;
    least = std::min(least, score);
    most = std::max(most, score);
  }
  if (rule.how == "sum") return sum;
  if (rule.how == "min") return least;
  if (rule.how == "max") return most;
  if (rule.how == "product") return product;
  return weights == 0 ? 1.0 : sum / weights;
}

struct CombineGrader {
  static absl::StatusOr<std::unique_ptr<Grader>> Create(const GraderSpec& spec) {
    ParamReader params(spec);
    std::vector<GraderPart> parts = ReadGraderParts(params, spec, "graders");
    Rule rule;
    rule.how = params.Choice("how", {"mean", "sum", "min", "max", "product", "gated"}, "mean");
    for (const GraderPart& part : parts) rule.weights[part.name] = 1.0;
    ReadWeights(params, &rule);
    ReadGate(params, &rule);
    if (rule.how != "gated" && params.Has("gate")) params.AddError("gate", "goes with how: gated");
    double total = 0;
    bool any = false;
    for (const auto& [name, weight] : rule.weights) {
      if (rule.gate.contains(name)) continue;
      total += weight;
      any = true;
    }
    if (any && total <= 0 && (rule.how == "mean" || rule.how == "gated"))
      params.AddError("weights", "must add up to more than 0 for a mean");
    RFT_RETURN_IF_ERROR(params.Finish());
    return MakeCompositeGrader(
        std::move(parts), [rule = std::move(rule)](const std::vector<NamedGrade>& grades) -> Grade {
          std::variant<PartScores, Grade> collected = CollectPartScores(grades);
          if (Grade* instead = std::get_if<Grade>(&collected)) return std::move(*instead);
          auto& [by_part, score] = std::get<PartScores>(collected);
          score.value = Combined(rule, by_part);
          return std::move(score);
        });
  }
};

}  // namespace

RFT_REGISTER_GRADER("combine", CombineGrader);

}  // namespace rft
