#include "graders/combine.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace rft {
namespace {

std::optional<std::string> Misfit(const char* what, const char* unit, size_t expected,
                                  const std::vector<double>& parts) {
  if (parts.empty()) return std::nullopt;
  if (parts.size() != expected)
    return absl::StrCat(parts.size(), " ", what, " for a completion of ", expected, " ", unit);
  if (!std::all_of(parts.begin(), parts.end(), [](double x) { return std::isfinite(x); }))
    return absl::StrCat(what, " must be finite");
  return std::nullopt;
}

}  // namespace

Grade CheckParts(const Rollout& rollout, Grade grade) {
  const Score* score = std::get_if<Score>(&grade);
  if (score == nullptr) return grade;
  const bool is_text = rollout.segments.empty();
  const auto turns = std::count_if(rollout.segments.begin(), rollout.segments.end(),
                                   [](const Segment& s) { return s.kind == SegmentKind::kModel; });
  const auto num_turns = is_text ? size_t{1} : static_cast<size_t>(turns);
  const size_t num_tokens =
      is_text ? score->token_advantages.size() : static_cast<size_t>(rollout.NumCompletionTokens());
  std::optional<std::string> wrong = Misfit("turn scores", "turns", num_turns, score->turn_scores);
  if (!wrong) wrong = Misfit("token advantages", "tokens", num_tokens, score->token_advantages);
  return wrong ? Grade{GradeError{*std::move(wrong)}} : std::move(grade);
}

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
