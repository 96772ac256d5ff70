#include "graders/combine.h"

#include <cmath>

namespace rft {

CombinedReward Combine(const std::vector<NamedGrade>& grades) {
  CombinedReward result;
  bool any = false;
  for (const NamedGrade& named : grades) {
    if (named.weight == 0) continue;
    any = true;
    const Score* score = std::get_if<Score>(&named.grade);
    if (score == nullptr) {
      return {false, 0.0,
              named.grader + ": " + GradeKind(named.grade) + ": " + GradeReason(named.grade)};
    }
    result.reward += named.weight * score->value;
  }
  if (!any) return {false, 0.0, "no grader has a weight"};
  if (!std::isfinite(result.reward))
    return {false, 0.0, "the weighted sum of the scores is not finite"};
  result.scored = true;
  return result;
}

}  // namespace rft
