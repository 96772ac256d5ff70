// A grader made of graders: each part judges the completion, then one function makes the grade of theirs.
//
// Parts may be anything registered, Python functions included: those run in their own processes at the same time, each under
// its own deadline, and no thread waits for them.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "graders/grader.h"
#include "graders/param_reader.h"

namespace rft {

struct GraderPart {
  std::string name;
  std::shared_ptr<const Grader> grader;
  double deadline_s = 10.0;
};

// Gets the grades in the order of the parts, weight 1 each. Called from several threads at once; quick.
using CombineGrades = std::function<Grade(std::vector<NamedGrade> grades)>;

// An AsyncGrader if a part is one. REQUIRES: at least one part.
std::unique_ptr<Grader> MakeCompositeGrader(std::vector<GraderPart> parts, CombineGrades combine);

// Reads parameter `key`, a map from the part's name to its grader: {"format": {"type": "regex_match", "pattern": ...}, ...}.
// `deadline_s` of a part: that of `spec` by default. Mistakes, those of the parts included, are added to `params`.
std::vector<GraderPart> ReadGraderParts(ParamReader& params, const GraderSpec& spec,
                                        std::string_view key);

// For a CombineGrades: the scores by part and as sub-scores (those of a part as "part/sub"), with the reasons joined; or, if
// a part gave none, the grade to give instead: of its kind, naming it.
struct PartScores {
  std::map<std::string, double> by_part;
  Score score;  // value still 0
};
std::variant<PartScores, Grade> CollectPartScores(const std::vector<NamedGrade>& grades);

}  // namespace rft
