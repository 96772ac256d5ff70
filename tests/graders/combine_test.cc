#include "graders/combine.h"

#include <cmath>
#include <limits>

#include "gtest/gtest.h"

namespace rft {
namespace {

NamedGrade Of(const char* name, double weight, Grade grade) {
  return {name, weight, std::move(grade)};
}
Grade Scored(double value) { return Score{value, {}, ""}; }

TEST(CombineTest, AddsWeightedScores) {
  const CombinedReward reward =
      Combine({Of("a", 1, Scored(1)), Of("b", 0.5, Scored(0.4)), Of("c", -1, Scored(0.1))});
  EXPECT_TRUE(reward.scored);
  EXPECT_DOUBLE_EQ(reward.reward, 1.1);
}

TEST(CombineTest, PartsThatDoNotFitTheCompletionAreAnErrorOfTheGrader) {
  Rollout rollout;
  rollout.segments = {{.kind = SegmentKind::kPrompt, .ids = {1}},
                      {.kind = SegmentKind::kModel, .ids = {2, 3}},
                      {.kind = SegmentKind::kTool, .ids = {4}},
                      {.kind = SegmentKind::kModel, .ids = {5, 6}}};
  const auto reason = [&](std::vector<double> turns, std::vector<double> tokens) {
    const Grade grade = CheckParts(rollout, Score{1.0, {}, "fits", turns, tokens});
    return GradeReason(grade);
  };
  EXPECT_EQ(reason({1, 0}, {0, 0, 0, 1}), "fits");
  EXPECT_EQ(reason({}, {}), "fits");
  EXPECT_EQ(reason({1, 0, 1}, {}), "3 turn scores for a completion of 2 turns");
  EXPECT_EQ(reason({1, 0}, {1}), "1 token advantages for a completion of 4 tokens");
  EXPECT_EQ(reason({}, {1, 1, 1, NAN}), "token advantages must be finite");
  rollout.segments.clear();  // a text alone
  EXPECT_EQ(reason({1}, {1, 1}), "fits");
  EXPECT_EQ(reason({1, 1}, {}), "2 turn scores for a completion of 1 turns");
}

TEST(CombineTest, LeavesARolloutUnscoredWhenAnyWeighingGraderGaveNoScore) {
  const Grade failures[] = {Abstain{"none"}, GradeError{"bad"}, Timeout{2}, Killed{"dead"}};
  for (const Grade& failure : failures) {
    const CombinedReward reward = Combine({Of("a", 1, Scored(1)), Of("b", 0.5, failure)});
    EXPECT_FALSE(reward.scored) << GradeKind(failure);
    EXPECT_EQ(reward.why_not.rfind(std::string("b: ") + GradeKind(failure) + ": ", 0), 0u)
        << reward.why_not;
  }
}

TEST(CombineTest, IgnoresGradersWithWeightZero) {
  const CombinedReward reward = Combine({Of("a", 2, Scored(0.5)), Of("b", 0, GradeError{"bad"})});
  EXPECT_TRUE(reward.scored);
  EXPECT_EQ(reward.reward, 1.0);
}

TEST(CombineTest, ScoresNothingWithoutAWeighingGrader) {
  EXPECT_FALSE(Combine({}).scored);
  EXPECT_FALSE(Combine({Of("a", 0, Scored(1))}).scored);
}

TEST(CombineTest, LeavesARolloutUnscoredWhenTheSumOverflows) {
  const double big = std::numeric_limits<double>::max();
  EXPECT_FALSE(Combine({Of("a", 2, Scored(big))}).scored);
}

}  // namespace
}  // namespace rft
